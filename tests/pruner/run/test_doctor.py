"""The doctor: plain data of this machine, and what of it is shown."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import latency_tables
from latency_tables import EngineAvailability, GpuState
from pruner.run import diagnosis as module
from pruner.run.cli import main
from pruner.run.diagnosis import ExtraState, Package, advise, diagnose, read_requirements
from pruner.run.doctor import render_diagnosis


@pytest.fixture(scope="module")
def found():
    return diagnose()


def test_it_finds_this_machine_and_ends_with_0(capsys):
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "onnxruntime" in said and "machine:" in said and "memory:" in said
    assert main(["doctor", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["machine"]["cores"] >= 1 and data["machine"]["memory_bytes"] > 1 << 28
    assert {one["name"] for one in data["engines"]} == set(latency_tables.engine_names())
    assert all(one["install"].startswith("pip install") for one in data["extras"])


def test_what_is_missing_comes_with_what_installs_it(found):
    extra = ExtraState("coreml", "export --format coreml", (Package("coremltools", None),))
    engine = EngineAvailability("openvino", missing="not installed; pip install openvino")
    changed = replace(
        found, extras=(extra,), engines=(engine,), gpu=GpuState(missing="no CUDA device"),
        needed=(Package("torch", "2.9"), Package("highspy", None)),
    )  # fmt: skip
    text = "\n".join(render_diagnosis(changed))
    assert 'without coremltools: pip install "msprune[coreml]"' in text
    assert "missing: not installed; pip install openvino" in text
    assert "missing: highspy: pip install highspy" in text and "GPU: none: no CUDA device" in text


def test_a_gpu_is_shown(found):
    gpu = GpuState("NVIDIA H100", "sm_90", "570.1", "clocks.sm 1980 MHz")
    text = "\n".join(render_diagnosis(replace(found, gpu=gpu)))
    assert "NVIDIA H100 (sm_90), driver 570.1" in text and "1980 MHz" in text


@pytest.mark.parametrize(
    "state, said",
    [
        ({"power": "governor powersave, at most 3000 MHz"}, "cpupower"),
        ({"power": "governor performance/schedutil"}, "cpupower"),
        ({"throttled": True}, "held down"),
        ({"load": 2.5}, "quiet machine"),
        ({"cores": 8, "cpu_quota": 1.5}, "--threads 1"),
        ({"free_bytes": 1 << 28}, "memory"),
    ],
)
def test_what_makes_latencies_unsteady_is_said(found, state, said):
    quiet = replace(
        found.machine, power="governor performance", throttled=False, load=0.0, cpu_quota=None,
        free_bytes=1 << 34,
    )  # fmt: skip
    assert not advise(quiet)
    (line,) = advise(replace(quiet, **state))
    assert said in line


def test_extras_are_those_of_setup_cfg(monkeypatch):
    known = read_requirements()
    assert "torch" in known[""] and set(module.PURPOSES) <= set(known)

    def fail(name):
        raise module.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(module.importlib.metadata, "requires", fail)
    assert {name: set(found) for name, found in read_requirements().items()} == {
        name: set(found) for name, found in known.items()
    }
