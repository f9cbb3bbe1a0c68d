"""Engines for real: every kernel's time reaches a cell, and cells add up to the whole."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile

import numpy as np
import pytest
import torch

import latency_tables
from latency_tables import EngineError, UnknownEngineError
from latency_tables.engines.onnxruntime_engine import read_kernel_times
from latency_tables.engines.torch_engine import remove_gaps
from latency_tables.timing.attribution import attribute_profile, find_step_owners

from ..nets import tiny

ENGINES = ["onnxruntime", "openvino", "torch"]


def make(name: str):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    return latency_tables.engine(name)


@pytest.fixture(scope="module")
def probes():
    torch.set_num_threads(1)
    source = tiny()
    return {"aligned": source.probe({}), "misaligned": source.probe({"stream": 24, "a": 40})}


@pytest.mark.parametrize("name", ENGINES)
def test_every_cell_gets_its_time(name, probes):
    engine = make(name)
    for probe in probes.values():
        session = engine.build(probe)
        assert session.run().wall_ms > 0
        profile = session.profile(5)
        session.close()
        assert profile.ms.shape == (5, len(profile.steps)) and len(profile.laps) == 5
        owners = find_step_owners(profile.steps, probe.cell_of)
        assert None not in owners
        assert set(owners) == set(probe.sizes)
        # Most steps are known by name; those that the engine made up are few.
        assert sum(1 for step in profile.steps if step.operators) >= len(probe.sizes)
        shares = attribute_profile(profile, probe.cell_of)
        assert sum(s.kernels for s in shares.values()) == len(profile.steps)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_int8_runs_in_int8_and_every_cell_gets_its_time(name, probes):
    make(name)
    engine = latency_tables.engine(name, precision="int8")
    assert engine.device.precision == "int8"
    probe = probes["misaligned"]
    session = engine.build(probe)
    profile = session.profile(5)
    session.close()
    shares = attribute_profile(profile, probe.cell_of)
    # A convolution that is fused into the one before it has no kernel of its own.
    assert {"stem", "conv1", "conv3"} <= set(shares) <= set(probe.sizes)
    assert sum(s.kernels for s in shares.values()) == len(profile.steps)


@pytest.mark.parametrize(("precision", "kernel"), [("bf16", "bf16"), ("fp16", "f16")])
def test_half_precision_is_what_was_asked_for_or_an_error(precision, kernel, probes):
    make("openvino")
    engine = latency_tables.engine("openvino", precision=precision)
    try:
        session = engine.build(probes["aligned"])
    except EngineError as error:  # this processor has the other one, or neither
        assert f"where {kernel} is asked for" in str(error)
        return
    kinds = [
        node.get_rt_info()["runtimePrecision"]
        for node in session._compile({}).get_runtime_model().get_ordered_ops()
    ]
    assert kernel in [str(getattr(kind, "value", kind)) for kind in kinds]
    session.close()


@pytest.mark.parametrize("name", ENGINES)
def test_the_device_is_described(name):
    device = make(name).device
    assert device.engine == name and device.engine_version and device.processor
    assert device.threads == 1 and device.precision == "fp32" and device.cores >= 1


def test_a_network_is_measured_with_onnx_runtime(tmp_path):
    torch.set_num_threads(1)
    source = tiny()
    table = latency_tables.measure(source, make("onnxruntime"), probes=5, quick=True, path=tmp_path)
    assert len(table.readings) == 5 and len(source.built) >= 5
    for index, reading in enumerate(table.readings):
        cells = sum(s.latency_ms for s in table.samples if s.reading == index)
        assert cells + table.overhead_ms == pytest.approx(reading.latency_ms, rel=0.5)
        assert cells + table.overhead_ms == pytest.approx(table.total_ms(reading))
    dense = [(c.spec, c.dense_sizes) for c in source.cells()]
    assert 0 < table.predict_total(dense) < 1000
    before = len(source.built)
    again = latency_tables.measure(source, make("onnxruntime"), probes=5, quick=True, path=tmp_path)
    assert again.readings == table.readings
    assert not [s for s in source.built[before:] if s]


def test_the_profiler_leaves_no_files(probes, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    session = make("onnxruntime").build(probes["aligned"])
    session.profile(2)
    assert list(tmp_path.iterdir()) == []


def test_the_same_gap_is_taken_off_every_step_of_a_gpu_profile():
    truth = np.array([0.5, 0.002, 0.04, 0.0, 0.3])
    left = remove_gaps(truth + 0.003, truth.sum())
    assert left * (truth + 0.003) == pytest.approx([0.5, 0.002, 0.04, 0.0003, 0.3], abs=1e-3)
    assert (left * (truth + 0.003)).sum() == pytest.approx(truth.sum())
    assert (remove_gaps(truth, truth.sum() + 1) == 1).all()
    few = remove_gaps(truth, 0.01)  # cannot be: a tenth of each stays
    assert few[truth > 0] == pytest.approx(0.1)


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("setting", [{}, {"precision": "fp16"}, {"compiled": True}])
def test_torch_measures_on_the_gpu(setting, tmp_path):
    engine = latency_tables.engine("torch", on="cuda", **setting)
    table = latency_tables.measure(tiny(), engine, probes=4, quick=True, path=tmp_path)
    assert table.device.instructions.startswith("sm_")
    for reading in table.readings:
        assert all(cell.kernel_ms > 0 for cell in reading.cells)


@needs_gpu
@pytest.mark.gpu
def test_on_the_gpu_kernels_add_up_to_the_replayed_graph():
    session = latency_tables.engine("torch", on="cuda").build(tiny().probe({}))
    assert session._graph is not None
    profile = session.profile(20)
    whole = np.median([session.run().wall_ms for _ in range(50)])
    assert 0.8 < np.median(profile.ms.sum(axis=1)) / whole < 1.25


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_torch_without_a_gpu_runs_on_the_processor_and_says_so():
    assert latency_tables.engine("torch").on == "cpu"
    with pytest.raises(EngineError, match="no CUDA device"):
        latency_tables.engine("torch", on="cuda")
    with pytest.raises(EngineError, match="runs fp32, bf16 on cpu, not 'fp16'"):
        latency_tables.engine("torch", precision="fp16")


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_network_is_another_setting(probes):
    engine = latency_tables.engine("torch", on="cpu", compiled=True)
    assert engine.device != latency_tables.engine("torch", on="cpu").device
    probe = probes["aligned"]
    session = engine.build(probe)
    assert session.run().wall_ms > 0
    assert set(attribute_profile(session.profile(2), probe.cell_of)) == set(probe.sizes)
    session.close()


def test_an_unknown_engine_is_an_error_that_names_the_known():
    with pytest.raises(UnknownEngineError, match="'onyx'.*onnxruntime, openvino, tensorrt, torch"):
        latency_tables.engine("onyx")


@pytest.mark.parametrize("setting", [{"threads": 0}, {"precision": "int3"}])
def test_a_setting_that_the_engine_lacks_is_an_error(setting):
    make("onnxruntime")
    with pytest.raises(EngineError, match=str(next(iter(setting.values())))):
        latency_tables.engine("onnxruntime", **setting)


def test_a_broken_network_is_an_error_of_the_family(probes):
    broken = latency_tables.Probe(None, (), lambda: b"no model", {}, {})
    with pytest.raises(EngineError, match="ONNX Runtime refuses"):
        make("onnxruntime").build(broken)


def test_the_profilers_log_is_read_run_by_run():
    def event(name, ms, cat="Node"):
        return {"cat": cat, "name": name, "dur": ms * 1000}

    run = [event("a/x_kernel_time", 1), event("b/x_kernel_time", 2), event("b/x_fence_after", 9)]
    log = [event("session_initialization", 5, "Session")]
    log += [*run, event("model_run", 3, "Session")] * 2
    names, ms = read_kernel_times(log)
    assert names == ["a/x", "b/x"] and ms.tolist() == [[1, 2], [1, 2]]
    with pytest.raises(EngineError, match="different kernels"):
        read_kernel_times([*log, event("c/x_kernel_time", 1), event("model_run", 3, "Session")])
