"""The runner with the engines themselves: what they execute leads back to the cells."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import latency_tables
from latency_tables import BundledEngine, CollectedEngine, Setting

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
    source, setting = ChainSource(widest=96), Setting(engine, 1, precision)
    folder = tmp_path / "bundle"
    latency_tables.write_probe_bundle(source, BundledEngine(folder, setting), probes=3, quick=True)
    before = set(tmp_path.iterdir())
    run_bundle(folder, python)
    assert set(tmp_path.iterdir()) == before  # which is the user's folder over there, too
    there = CollectedEngine(folder, setting)
    table = latency_tables.measure(source, there, probes=3, quick=True)
    here = latency_tables.engine(engine, threads=1, precision=precision).device
    assert table.device.at_batch(1).identity == here.identity
    for reading in table.readings:
        assert reading.latency_ms > 0 and reading.reference_ms > 0
        assert reading.kernels >= 1
        assert reading.kernel_ms > 0 or not bare  # OpenVINO counts whole microseconds
        assert [cell.cell for cell in reading.cells] == [cell.name for cell in source.cells()]
    if precision == "fp32" and bare:
        assert all(cell.kernels for reading in table.readings for cell in reading.cells)
