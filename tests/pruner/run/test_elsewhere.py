"""A whole run on a device elsewhere, over ssh and by hand; ONNX Runtime is real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from latency_tables import LatencyTable
from pruner import PrunerError
from pruner.run.cli import main
from pruner.run.config import MeasureConfig
from pruner.run.elsewhere import open_engine
from pruner.run.run_folder import RunFolder
from tests.latency_tables.devices.hosts import can_serve, serve
from tests.latency_tables.devices.places import make_python, run_bundle
from tests.latency_tables.devices.stand_in_tools import make_tool

from ..runs import MODEL, prepare

MEASURE = ("--quick", "--probes", "5", "--library", "none")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_python(tmp_path_factory.mktemp("bare") / "env")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return prepare(tmp_path)


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("ssh")
    with serve(folder) as homes:
        monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
        yield homes["board"]


def measure(device: str, *more: str, out: str = "RUN") -> int:
    return main(["measure", MODEL, "--out", out, *MEASURE, "--device", device, *more])


@pytest.mark.skipif(not can_serve(), reason="there is no sshd (openssh-server)")
def test_checked_measured_solved_and_timed_over_ssh(
    here: Path, home: Path, python: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = ("--python", str(python))
    assert main(["device", "check", "ssh:board", *there]) == 0
    said = capsys.readouterr().out
    assert "onnxruntime" in said and "torch" not in said and "ready: msprune measure" in said
    assert measure("ssh:board", "--verbose", *there) == 0
    captured = capsys.readouterr()
    assert "5 structures measured" in captured.out
    assert "runner.py --bundle" in captured.err  # --verbose shows what is run over there
    solve = ["solve", "RUN", "--budget", "70%", "--criterion", "magnitude"]
    assert main([*solve, "--set", "solve.attempts=1", "--verbose"]) == 0
    assert "runner.py --bundle" in capsys.readouterr().err
    metrics = json.loads((here / "RUN" / "metrics.json").read_text())
    assert metrics["check"] and metrics["pruned"]["latency_ms"] > 0
    assert main(["bench", "RUN", "--runs", "6", "--verbose"]) == 0
    captured = capsys.readouterr()
    assert "runner.py --bundle" in captured.err and "measured" in captured.out
    assert {path.name for path in home.iterdir()} == {".cache"}
    assert RunFolder("RUN").read_state()["config"]["measure"]["device"] == "ssh:board"


def test_by_hand_with_what_solve_asks_for(
    here: Path, python: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert measure("bundle:OUT") == 0
    assert "OUT: 5 probes of tiny_network:make" in capsys.readouterr().out
    assert not (here / "RUN" / "run.json").exists()
    assert measure("collect:OUT") == 2
    assert "nothing of OUT is measured yet: run OUT/run.sh" in capsys.readouterr().err
    assert not (here / "RUN" / "run.json").exists()
    run_bundle(here / "OUT", python)
    assert measure("collect:OUT") == 0
    table = LatencyTable.load("RUN")
    assert len(table.readings) == 5
    anew = {"quick": True, "probes": 5, "library": "none", "device": "bundle:ANEW"}
    content = {"model": MODEL, "out": "RUN", "budgets": ["70%"], "measure": anew}
    (here / "anew.yaml").write_text(json.dumps(content))
    capsys.readouterr()
    assert main(["run", "anew.yaml"]) == 0  # a bundle is all that can be made of it here
    assert "ANEW: 5 probes" in capsys.readouterr().out and not (here / "RUN" / "plan.json").exists()
    solve = ["solve", "RUN", "--budget", "70%", "--criterion", "magnitude"]
    solve += ["--set", "solve.attempts=1"]
    for _ in range(4):  # a structure to check, and the comparison at the end
        capsys.readouterr()
        if main(solve) == 0:
            break
        said = capsys.readouterr().err
        assert "1 of 1 measurements are still to run" in said
        for more in (here / "OUT" / "more").iterdir():
            run_bundle(more, python)
    assert (here / "RUN" / "plan.json").is_file()


@pytest.mark.parametrize(
    ("device", "more", "said"),
    [
        ("usb:1", (), "expected bundle:DIR, collect:DIR, ssh:HOST, adb:SERIAL or a fleet's .yaml"),
        ("bundle:", (), "expected bundle:DIR"),
        ("collect:NONE", (), "NONE holds no bundle: write one with --device bundle:"),
        ("fleet.yaml", (), "there is no fleet file 'fleet.yaml'"),
        ("bundle:OUT", ("--engine", "torch"), "engine 'torch' is not one that runs elsewhere"),
        ("bundle:OUT", ("--precision", "fp16"), "runs fp32, int8, not 'fp16'"),
        ("ssh:-oProxyCommand=id", (), "is no device"),
    ],
)
def test_what_makes_no_sense_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], device: str, more: tuple[str, ...], said: str
) -> None:
    assert measure(device, *more) == 2
    assert said in capsys.readouterr().err
    assert not (here / "RUN").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("devices: [", "not YAML"),
        ("hosts: [ssh:a]", "expected a list of ssh:HOST"),
        ("devices: [usb:1]", "expected bundle:DIR"),
        ("devices: [{device: ssh:a, port: 2}]", "each a text, or device and python"),
        ("devices: [{device: 22}]", "each a text, or device and python"),
        ("devices: [ssh:a, ssh:a]", "each one once"),
    ],
)
def test_a_fleet_file_that_makes_no_sense_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    (here / "fleet.yaml").write_text(text)
    assert measure("fleet.yaml") == 2
    assert said in capsys.readouterr().err


def test_a_bundle_for_a_vendors_tool_says_what_it_needs(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tool is a stand-in; the network and all that is made of it are real."""
    tool = make_tool(here / "bin", "onnxruntime_perf_test")
    engine = ("--engine", "onnxruntime_perf_test")
    assert measure("bundle:OUT", *engine) == 0
    said = capsys.readouterr().out
    assert "for onnxruntime_perf_test" in said
    assert "TOOL names onnxruntime_perf_test where it is not on PATH; PYTHON names a" in said
    environment = {"PATH": os.environ["PATH"], "TOOL": str(tool), "PYTHON": sys.executable}
    subprocess.run(["sh", "OUT/run.sh"], env=environment, check=True, capture_output=True)
    assert measure("collect:OUT", *engine) == 0
    assert "5 structures measured" in capsys.readouterr().out
    table = LatencyTable.load("RUN")
    assert table.device.engine == "onnxruntime_perf_test"
    # This one names none of the network's layers.
    assert any("regression of whole probes" in note for note in table.notes)


def test_a_fleets_device_may_have_a_tool_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text("devices: [ssh:a, {device: ssh:b, tool: /opt/trtexec}]")
    fleet = open_engine(MeasureConfig(engine="trtexec", device=str(path), tool="trtexec --x"))
    own = [member._name_programs() for member in fleet._members]
    assert own[0].startswith("export TOOL='trtexec --x' ")
    assert own[1].startswith("export TOOL=/opt/trtexec ")
    path.write_text("devices: [{device: ssh:b, tool: 3}]")
    with pytest.raises(PrunerError, match="device and python or tool"):
        open_engine(MeasureConfig(engine="trtexec", device=str(path)))
