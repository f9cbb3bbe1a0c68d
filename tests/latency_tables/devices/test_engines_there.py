"""The runner with the engines themselves: what they execute leads back to the cells."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import latency_tables
from latency_tables import BundledEngine, CollectedEngine, EngineError, Setting
from latency_tables.devices.remote import PRECISIONS
from latency_tables.devices.runner.onnxruntime_part import OrtRunnerEngine, read_kernels
from latency_tables.devices.runner.openvino_part import OpenVinoRunnerEngine
from latency_tables.devices.runner.records import RunnerError
from latency_tables.engines.onnxruntime_engine import read_kernel_times

from .chain import ChainSource
from .places import make_python, run_bundle


@pytest.mark.parametrize(
    ("engine", "precision"),
    [("onnxruntime", "fp32"), ("onnxruntime", "int8"), ("openvino", "fp32")],
)
def test_readings_of_the_real_engine_name_their_cells(
    tmp_path: Path, engine: str, precision: str
) -> None:
    if find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed")
    bare = engine == "onnxruntime"
    python = make_python(tmp_path / "env") if bare else Path(sys.executable)
    # Each kernel takes more than the microsecond that profilers count in.
    source = ChainSource(widest=1024, least=768)
    setting = Setting(engine, 1, precision)
    folder = tmp_path / "bundle"
    latency_tables.write_probe_bundle(source, BundledEngine(folder, setting), probes=3, quick=True)
    before = set(tmp_path.iterdir())
    run_bundle(folder, python)
    assert set(tmp_path.iterdir()) == before  # which is the user's folder over there, too
    there = CollectedEngine(folder, setting)
    table = latency_tables.measure(source, there, probes=3, quick=True)
    here = latency_tables.engine(engine, threads=1, precision=precision).device
    assert replace(table.device, board="", power="") == here  # not asked here
    for reading in table.readings:
        assert reading.latency_ms > 0 and reading.reference_ms > 0
        assert reading.kernels >= 1 and reading.kernel_ms > 0
        assert [cell.cell for cell in reading.cells] == [cell.name for cell in source.cells()]
    if precision == "fp32" and bare:
        assert all(cell.kernels for reading in table.readings for cell in reading.cells)


def test_onnxruntime_is_set_up_there_as_here(monkeypatch: pytest.MonkeyPatch) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    make, seen = onnxruntime.InferenceSession, []

    def note(model: bytes, options: Any, providers: list[str]) -> Any:
        names = [n for n in dir(options) if not n.startswith("_")]
        facts = {n: getattr(options, n) for n in names if not callable(getattr(options, n))}
        denormals = options.get_session_config_entry("session.set_denormal_as_zero")
        seen.append((facts, denormals, providers))
        return make(model, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", note)
    probe = ChainSource().probe({})
    latency_tables.engine("onnxruntime", threads=2).build(probe)
    there = OrtRunnerEngine(Setting("onnxruntime", 2, "fp32").to_json())
    there.build(probe.onnx(), {"x": probe.inputs[0].numpy()})
    here, own = seen
    assert own == here and own[0]["intra_op_num_threads"] == 2


@pytest.mark.parametrize("precision", PRECISIONS["openvino"])
def test_openvino_is_set_up_there_as_here(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    openvino = pytest.importorskip("openvino")
    seen = []

    class NotedCore(openvino.Core):
        def compile_model(self, model: Any, device: str, settings: dict[str, Any]) -> Any:
            seen.append((device, settings))
            return super().compile_model(model, device, settings)

    monkeypatch.setattr(openvino, "Core", NotedCore)
    probe = ChainSource().probe({})
    with suppress(EngineError):  # of a processor without this precision
        latency_tables.engine("openvino", threads=2, precision=precision).build(probe)
    there = OpenVinoRunnerEngine(Setting("openvino", 2, precision).to_json())
    with suppress(RunnerError):
        there.build(probe.onnx(), {"x": probe.inputs[0].numpy()})
    here, own = seen
    assert own == here and own[1]["INFERENCE_NUM_THREADS"] == 2


def test_onnxruntime_profiles_are_read_there_as_here() -> None:
    events = []
    for us in (9, 4, 5):
        events.append({"cat": "Session", "name": "session_initialization", "dur": 70})
        for name in ("c0/mm", "c1/mm"):
            events.append({"cat": "Node", "name": f"{name}_fence_before", "dur": 1})
            events.append({"cat": "Node", "name": f"{name}_kernel_time", "dur": us})
        events.append({"cat": "Session", "name": "model_run", "dur": 20})
    names, rows = read_kernels(events)
    here, ms = read_kernel_times(events)
    assert names == here == ["c0/mm", "c1/mm"]
    assert [[us / 1e3 for us in row] for row in rows] == ms.tolist()
    events[1]["name"] = "other_kernel_time"
    with pytest.raises(RunnerError, match="different kernels"):
        read_kernels(events)
    with pytest.raises(EngineError, match="different kernels"):
        read_kernel_times(events)
