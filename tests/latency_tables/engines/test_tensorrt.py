"""TensorRT up to the built engine without a GPU; what runs on one is marked."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
import torch

import latency_tables
from latency_tables import EngineError, UnknownEngineError
from latency_tables.engines import Lap, Profile, Step, tensorrt_library
from latency_tables.engines.kernel_names import find_operators
from latency_tables.engines.plan_files import PlanFiles
from latency_tables.engines.tensorrt_engine import find_onnx_layers, make_step, read_layer_sources
from latency_tables.timing.attribution import attribute_profile

from ..nets import tiny

HERE = any(importlib.util.find_spec(n) for n in ("tensorrt", "tensorrt_rtx_bindings"))
GPU = torch.cuda.is_available()
needs_library = pytest.mark.skipif(
    not HERE, reason='TensorRT is not installed: pip install "msprune[tensorrt-rtx]"'
)


@pytest.fixture(scope="module")
def probe():
    torch.set_num_threads(1)
    return tiny().probe({"a": 24})


@needs_library
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_the_real_builder_names_every_cell(precision, probe, tmp_path):
    engine = latency_tables.engine("tensorrt", precision=precision, folder=tmp_path)
    if engine.library != "tensorrt-rtx":
        pytest.skip("tensorrt itself builds for a GPU that is there only")
    plan = engine.plan(probe, "SM89")
    named = find_onnx_layers(plan.decode("latin-1"))
    cells = {probe.cell_of[o] for name in named for o in find_operators(name, probe.cell_of)}
    assert cells == set(probe.sizes)
    weights = sum(p.numel() for p in probe.module.parameters())
    width = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}[precision]
    # A plan holds the weights in its precision, and little else.
    assert len(plan) < weights * width + (1 << 20)
    if precision != "int8":
        assert len(plan) > weights * width


@needs_library
def test_a_built_engine_is_kept_and_the_oldest_go(probe, tmp_path, monkeypatch):
    engine = latency_tables.engine("tensorrt", folder=tmp_path)
    model = engine.model(probe)
    built = engine._plan(model, "SM89")
    (file,) = tmp_path.glob("*.engine")
    assert file.read_bytes() == built and (tmp_path / "timing.cache").exists()
    file.write_bytes(b"kept")  # whatever the file holds is not built again
    assert engine._plan(model, "SM89") == b"kept"
    assert engine._plan(model, "SM80") != b"kept"
    monkeypatch.setattr("latency_tables.engines.plan_files._MOST_BYTES", 10)
    PlanFiles(tmp_path).write("new", b"x" * 20)
    assert [f.name for f in tmp_path.glob("*.engine")] == ["new.engine"]


@needs_library
def test_what_tensorrt_cannot_build_is_an_error_with_its_words(tmp_path):
    engine = latency_tables.engine("tensorrt", folder=tmp_path)
    broken = latency_tables.Probe(None, (), lambda: b"no model", {}, {})
    with pytest.raises(EngineError, match="TensorRT refuses the network: .+"):
        engine.plan(broken, "SM89")
    with pytest.raises(EngineError, match="SM1"):
        engine.plan(tiny().probe({}), "SM1")


@needs_library
@pytest.mark.skipif(GPU, reason="there is a GPU")
def test_without_a_gpu_the_error_says_what_is_missing(probe, tmp_path):
    engine = latency_tables.engine("tensorrt", folder=tmp_path)
    for act in (lambda: engine.device, lambda: engine.build(probe)):
        with pytest.raises(EngineError, match=r"no GPU can be used \(pycuda.*torch.*NVIDIA"):
            act()


@needs_library
@pytest.mark.gpu
@pytest.mark.skipif(not GPU, reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_network_is_measured_on_the_gpu(precision, tmp_path):
    engine = latency_tables.engine("tensorrt", precision=precision, folder=tmp_path / "plans")
    source = tiny()
    table = latency_tables.measure(source, engine, probes=4, quick=True, path=tmp_path)
    assert table.device.instructions.startswith("sm_") and table.device.driver
    for reading in table.readings:
        assert 0.2 < reading.kernel_ms / reading.latency_ms < 2
        assert all(cell.kernel_ms > 0 for cell in reading.cells)


def test_no_tensorrt_at_all_says_what_to_install(monkeypatch):
    tensorrt_library.load_tensorrt.cache_clear()
    monkeypatch.setattr(
        tensorrt_library.importlib,
        "import_module",
        lambda name: (_ for _ in ()).throw(ImportError(f"No module named {name!r}")),
    )
    with pytest.raises(UnknownEngineError, match=r"msprune\[tensorrt-rtx\]"):
        tensorrt_library.load_tensorrt()
    tensorrt_library.load_tensorrt.cache_clear()


def test_layers_lead_back_to_operators_by_name_or_by_metadata():
    information = json.dumps(
        {
            "Layers": [
                {"Name": "conv1/Conv + relu_1/Relu", "Metadata": ""},
                {
                    "Name": "__myl_AddGelu_myl0_3",
                    "Metadata": "[ONNX Layer: linear/Gemm]\x1e[ONNX Layer: gelu/Erf]",
                },
            ],
            "Bindings": ["x", "logits"],
        }
    )
    sources = read_layer_sources(information)
    known = {"conv1", "relu_1", "linear", "gelu"}

    def found(name):
        return make_step(name, sources, known, {}).operators

    assert found("conv1/Conv + relu_1/Relu") == ("conv1", "relu_1")
    assert found("__myl_AddGelu_myl0_3") == ("linear", "gelu")
    copy = make_step("Reformatting CopyNode for Input Tensor 0 to conv1/Conv", sources, known, {})
    assert copy.operators == ("conv1",)
    assert read_layer_sources(json.dumps({"Layers": ["a", "b"]})) == {}


def test_a_profile_without_names_is_shared_among_all_cells():
    profile = Profile([Step("everything")], np.array([[8.0]] * 8), [Lap(8, 8)] * 8)
    shares = attribute_profile(profile, {"a": "A", "b": "B"}, work={"A": 1.0, "B": 3.0})
    assert {cell: share.kernel_ms for cell, share in shares.items()} == {"A": 2, "B": 6}
