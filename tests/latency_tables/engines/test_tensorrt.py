"""TensorRT up to the built engine without a GPU; what runs on one is marked."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import latency_tables
from latency_tables import EngineError, UnknownEngineError
from latency_tables.engines import Lap, Profile, Step, tensorrt_library
from latency_tables.engines.kernel_names import find_operators
from latency_tables.engines.onnx_precision import cast_model, quantize_model, to_bf16
from latency_tables.engines.plan_files import PlanFiles
from latency_tables.engines.tensorrt_engine import find_onnx_layers, make_step, read_layer_sources
from latency_tables.timing.attribution import attribute_profile, share_steps

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


def test_a_kernel_of_several_cells_is_shared_by_their_work():
    cell_of = {"a": "A", "b": "B", "c": "C", "relu": "C"}
    steps = [Step("a+b", ("a", "b")), Step("b+c", ("c",)), Step("c+relu", ("a", "relu"))]
    sharers = share_steps(steps, cell_of, {"A": 1.0, "B": 3.0, "C": 5.0})
    # B has no kernel of its own; C has one, so its ReLU within A's costs it nothing.
    assert sharers == [{"A": 0.25, "B": 0.75}, {"C": 1.0}, {"A": 1.0}]
    assert share_steps(steps, cell_of)[0] == {"A": 1.0}
    ms = np.array([[4.0, 5.0, 1.0]] * 8)
    shares = attribute_profile(
        Profile(steps, ms, [Lap(10, 10)] * 8), cell_of, work={"A": 1.0, "B": 3.0, "C": 5.0}
    )
    assert {cell: share.kernel_ms for cell, share in shares.items()} == {"A": 2, "B": 3, "C": 5}
    assert {cell: share.kernels for cell, share in shares.items()} == {"A": 2, "B": 0, "C": 1}


def test_a_profile_without_names_is_shared_among_all_cells():
    profile = Profile([Step("everything")], np.array([[8.0]] * 8), [Lap(8, 8)] * 8)
    shares = attribute_profile(profile, {"a": "A", "b": "B"}, work={"A": 1.0, "B": 3.0})
    assert {cell: share.kernel_ms for cell, share in shares.items()} == {"A": 2, "B": 6}


def _model():
    """y = resize(x @ w + 1) by a Constant node, cast to single precision at the end."""
    weight = numpy_helper.from_array(np.arange(16, dtype=np.float32).reshape(4, 4), "w")
    scales = numpy_helper.from_array(np.array([1, 2], dtype=np.float32), "scales")
    one = numpy_helper.from_array(np.float32(1), "one_value")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="m/MatMul"),
        helper.make_node("Constant", [], ["one"], value=one),
        helper.make_node("Add", ["m", "one"], ["a"], name="a/Add"),
        helper.make_node("Cast", ["a"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Resize", ["f", "", "scales"], ["y"], mode="nearest"),
    ]
    value = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8])]
    graph = helper.make_graph(nodes, "g", value, out, [weight, scales])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 1e-3), ("bf16", 1e-2)])
def test_a_cast_model_computes_the_same_in_half_precision(precision, tolerance):
    from onnx.reference import ReferenceEvaluator

    model = _model()
    x = np.array([[0.5, -1, 2, 3]], dtype=np.float32)
    expected = ReferenceEvaluator(model).run(None, {"x": x})[0]
    half = onnx.load_model_from_string(cast_model(model.SerializeToString(), precision))
    onnx.checker.check_model(half, full_check=True)
    kind = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}[precision]
    assert {v.type.tensor_type.elem_type for v in (*half.graph.input, *half.graph.output)} == {kind}
    types = {t.name: t.data_type for t in half.graph.initializer}
    assert types == {"w": kind, "scales": TensorProto.FLOAT}
    dtype = numpy_helper.to_array(half.graph.initializer[0]).dtype
    got = ReferenceEvaluator(half).run(None, {"x": x.astype(dtype)})[0].astype(np.float32)
    np.testing.assert_allclose(got, expected, rtol=tolerance)


def test_bf16_rounds_as_torch_does():
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    ours = to_bf16(values).view(np.int16)
    theirs = torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).numpy()
    assert (ours == theirs).all()


def test_a_quantized_model_is_close_to_the_original(probe):
    import onnxruntime

    model = probe.onnx()
    x = probe.inputs[0].numpy()
    name = onnx.load_model_from_string(model).graph.input[0].name
    for symmetric in (False, True):
        small = quantize_model(model, [{name: x}], symmetric=symmetric)
        assert len(small) < 0.5 * len(model)
        out = [
            onnxruntime.InferenceSession(m, providers=["CPUExecutionProvider"]).run(None, {name: x})
            for m in (model, small)
        ]
        assert np.abs(out[0][0] - out[1][0]).max() < 0.1 * np.abs(out[0][0]).max()
