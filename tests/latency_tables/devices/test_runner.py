"""The runner: one file for a bare Python, the same rules as here, nothing outside its folder."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from latency_tables.device import _INSTRUCTIONS, describe_cpu
from latency_tables.devices.assemble import assemble_runner
from latency_tables.devices.runner import device_facts, laps, models, records
from latency_tables.engines import Lap
from latency_tables.engines.onnx_precision import to_bf16
from latency_tables.measurement.time_budget import TimeBudget
from latency_tables.timing import Limits, Timing, clock


def imported(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "a part's import was left in"
            found.add(str(node.module).split(".")[0])
    return found


def test_it_is_one_file_for_an_old_python_that_needs_numpy_and_an_engine() -> None:
    tree = ast.parse(assemble_runner(), feature_version=(3, 8))
    engines = {"onnxruntime", "openvino", "tensorrt", "pycuda"}
    assert imported(tree) <= set(sys.stdlib_module_names) | {"numpy"} | engines
    network = {"socket", "urllib", "http", "ssl", "ftplib", "smtplib", "xmlrpc"}
    assert not imported(tree) & network


def test_no_two_parts_use_a_name_for_different_things() -> None:
    names = [
        node.name
        for node in ast.parse(assemble_runner()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    ]
    assert len(names) == len(set(names))


def test_it_describes_a_processor_as_this_package_does() -> None:
    setting = json.dumps({"engine": "onnxruntime", "threads": 2, "precision": "fp32", "batch": 1})
    said = subprocess.run(
        [sys.executable, "-", "--describe", setting], input=assemble_runner(), text=True,
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    (line,) = [line for line in said.splitlines() if line.startswith("device ")]
    found = json.loads(line.removeprefix("device "))["device"]
    assert device_facts.INSTRUCTIONS == _INSTRUCTIONS
    here = describe_cpu("onnxruntime", found["engine_version"], 2, "fp32").to_json()
    assert {k: found[k] for k in here if k != "clock_mhz"} == {
        k: v for k, v in here.items() if k != "clock_mhz"
    }


class Scripted:
    """A session whose laps are written down."""

    def __init__(self, seed: int, usual_us: float) -> None:
        random = np.random.default_rng(seed)
        self.rows = iter(usual_us * (1 + 0.05 * random.standard_normal(100_000)))

    def run(self):
        wall = float(next(self.rows))
        return wall, 0.9 * wall if wall > 1.09 * 1000 else wall


class HostSession(Scripted):
    def run(self):
        wall, cpu = super().run()
        return Lap(wall / 1e3, cpu / 1e3)


def test_it_times_by_the_rules_of_the_clock_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.perf_counter", lambda: 0.0)
    limits = {"least": 12, "most": 400, "seconds": 1.0, "interval": 0.004}
    there = laps.time_in_turn({"probe": Scripted(0, 1000), "reference": Scripted(1, 3000)},
                              "probe", limits, True)  # fmt: skip
    sessions = {"probe": HostSession(0, 1000), "reference": HostSession(1, 3000)}
    here = clock.time_in_turn(sessions, 1, Limits(**limits), "probe")
    for role, timing in here.items():
        own = [Lap(wall / 1e3, cpu / 1e3) for wall, cpu in there[role].laps]
        assert Timing.of(own, True) == timing
        median, interval, _ = there[role].summarize()
        assert median / 1e3 == pytest.approx(timing.median_ms)
        assert interval / 1e3 == pytest.approx(timing.interval_ms)


def test_it_shares_time_as_a_campaign_here_does() -> None:
    there = laps.TimeShare({"each_s": 4.5, "shortest_s": 0.9, "longest_s": 2.5}, 6)
    here = TimeBudget(4.5, 0.9, 2.5, 6)

    class Spent:
        runs, latency_ms = 100, 8.0

    for seconds in (3.0, 9.0, 1.2, 4.0):
        there.spend(seconds, 0.8)
        here.spend(seconds, Spent())  # type: ignore[arg-type]
        assert there.next_seconds() == pytest.approx(here.seconds)


def test_bfloat16_is_rounded_as_here() -> None:
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    assert np.array_equal(models.to_kind(values, "bfloat16"), to_bf16(values))


def test_a_record_that_was_edited_or_cut_is_none(tmp_path: Path) -> None:
    path = tmp_path / "r.json.gz"
    records.write_file(str(path), records.pack_record({"key": "a", "builds": []}))
    assert records.read_record(str(path))["key"] == "a"
    whole = path.read_bytes()
    for damaged in (whole[:-5], whole[:12], b"", records.pack_record({})[:-1] + b"x"):
        path.write_bytes(damaged)
        assert records.read_record(str(path)) is None
