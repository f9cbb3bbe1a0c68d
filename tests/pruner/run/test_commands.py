"""Whole runs in processes of their own, also when they are killed."""

from __future__ import annotations

import importlib
import itertools
import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import latency_tables
import pruner
from pruner.run.commands import run
from pruner.run.config import Config
from pruner.run.run_folder import RunFolder
from pruner.utils.tensor_file import read_tensors

from ..runs import MODEL, accuracy, contents, prepare, start, start_two

CONFIG = {
    "model": MODEL,
    "data": "data",
    "budgets": ["70%", "50%"],
    "measure": {"probes": 5, "quick": True},
    "solve": {"check": False},
    "finetune": {"epochs": 1, "batch": 12, "reference": True},
}
NEAR_TIE = 1.01 / 24  # one test image, on which batches and single images may disagree


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return out


def kill_when(process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    """SIGKILL once something is so; the process must not be over by then."""
    deadline = time.monotonic() + 240
    while not ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.fixture(scope="module")
def killed_measure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RUN whose measurement was killed half-way and then completed."""
    folder = prepare(tmp_path_factory.mktemp("killed"))
    command = ("measure", MODEL, "--out", "RUN", "--probes", "5", "--quick")
    journal = folder / "RUN" / "latency.journal"
    kill_when(
        start(folder, *command),
        lambda: journal.is_file() and journal.read_text().count("\n") >= 3,
    )
    half = [json.loads(line) for line in journal.read_text().splitlines()[1:3]]
    (folder / "half.json").write_text(json.dumps([row["measured_at"] for row in half]))
    assert "structures measured" in finish(start(folder, *command))
    return folder


def test_a_killed_measurement_continues(killed_measure: Path) -> None:
    table = latency_tables.LatencyTable.load(killed_measure / "RUN")
    before = json.loads((killed_measure / "half.json").read_text())
    # Not measured twice, but for what the machine's noise made suspect.
    assert all(r.measured_at == b or r.attempt for r, b in zip(table.readings, before))
    assert len(table.readings) == 5  # what an undisturbed run measures
    assert not (killed_measure / "RUN" / "latency.journal").exists()


def test_a_killed_solve_ends_like_an_undisturbed_one(killed_measure: Path, tmp_path: Path) -> None:
    command = ("solve", "RUN", "--budget", "60%", "--data", "data", "--no-check")
    folders = []
    for name in ("whole", "killed"):
        folder = tmp_path / name
        shutil.copytree(killed_measure, folder)
        folders.append(folder)
    whole, killed = folders
    finish(start(whole, *command))
    scratch = killed / "RUN"
    # Killed while the scores are taken over, or right after; both leave the plan to be made.
    kill_when(
        start(killed, *command),
        lambda: any(scratch.glob(".new-*")) or (scratch / "importance.safetensors").exists(),
    )
    assert not (killed / "RUN" / "plan.json").exists()
    finish(start(killed, *command))
    for name in ("plan.json", "model.safetensors"):
        assert (killed / "RUN" / name).read_bytes() == (whole / "RUN" / name).read_bytes()
    assert not list((killed / "RUN").glob(".new-*"))

    command = ("finetune", "RUN", "--data", "data", "--epochs", "12", "--batch", "12")
    finish(start(whole, *command))
    checkpoints = killed / "RUN" / "checkpoints"
    kill_when(
        start(killed, *command),
        lambda: any(checkpoints.glob("*/*.safetensors")),
    )
    finish(start(killed, *command))
    ours, theirs = (pruner.load(f / "RUN").state_dict() for f in (killed, whole))
    assert all(ours[key].equal(theirs[key]) for key in theirs)
    figures = [json.loads((f / "RUN" / "metrics.json").read_text()) for f in (killed, whole)]
    assert figures[0]["pruned"] == figures[1]["pruned"]
    assert not checkpoints.exists()


def test_run_with_budgets_resumes_and_reports(tmp_path: Path, monkeypatch) -> None:
    folder = prepare(tmp_path)
    monkeypatch.chdir(folder)
    config = Config.from_dict({**CONFIG, "out": "RUN"})
    first = run(config)
    assert [row["budget"] for row in first.data["budgets"]] == ["70%", "50%"]
    for slug in ("70", "50"):
        small = pruner.load(folder / "RUN" / slug)
        metrics = json.loads((folder / "RUN" / slug / "metrics.json").read_text())
        assert sum(p.numel() for p in small.parameters()) == metrics["pruned"]["parameters"]
        assert metrics["pruned"]["predicted_ms"] <= metrics["budget_ms"] * (1 + 1e-9)
        assert 0 <= metrics["dense"]["accuracy_after_same_finetune"] <= 1
    overview = (folder / "RUN" / "report.html").read_text()
    assert "70/report.html" in overview and "50/report.html" in overview
    before = contents(folder / "RUN")
    assert run(config).data == first.data
    assert contents(folder / "RUN") == before


@pytest.mark.parametrize("repair, times", [(24, 0), (0, 1)])
def test_statistics_are_left_as_a_repair_made_them(tmp_path, monkeypatch, repair, times) -> None:
    module = importlib.import_module("pruner.tuning.loop")
    done: list[int] = []
    recalibrate = module.recalibrate
    monkeypatch.setattr(module, "recalibrate", lambda *a: done.append(recalibrate(*a)))
    monkeypatch.chdir(prepare(tmp_path))
    tuning = {"epochs": 0, "batch": 12, "repair": repair}
    run(Config.from_dict({**CONFIG, "budgets": ["50%"], "finetune": tuning, "out": "RUN"}))
    assert len(done) == times


def test_run_solves_and_checks_on_the_device(killed_measure: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(killed_measure, folder)
    finish(start(folder, "solve", "RUN", "--budget", "60%", "--criterion", "magnitude"))
    metrics = json.loads((folder / "RUN" / "metrics.json").read_text())
    assert metrics["check"] and metrics["pruned"]["latency_ms"] > 0
    state = RunFolder(folder / "RUN").read_state()
    assert state["identity"]["model"] == MODEL and state["versions"]["torch"]


def test_two_processes_tune_a_run(killed_measure: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(killed_measure, folder)
    solve = ("solve", "RUN", "--budget", "60%", "--criterion", "magnitude", "--no-check")
    for process in start_two(folder, *solve):
        _, err = process.communicate(timeout=240)
        assert process.returncode == 2 and "works in one process" in err
    finish(start(folder, *solve))
    state = RunFolder(folder / "RUN").read_state()
    state["config"]["finetune"]["reference"] = True  # no option of the command line
    RunFolder(folder / "RUN").write_state(state)
    told = [
        finish(process)
        for process in start_two(
            folder, "finetune", "RUN", "--data", "data", "--epochs", "6", "--batch", "12"
        )
    ]
    assert "accuracy" in told[0] and not told[1]
    metrics = json.loads((folder / "RUN" / "metrics.json").read_text())
    assert 0 <= metrics["dense"]["accuracy_after_same_finetune"] <= 1
    small = pruner.load(folder / "RUN")
    # How well it does hangs on the structure, and that on what this machine measures.
    assert metrics["pruned"]["accuracy"] == pytest.approx(accuracy(small, folder), abs=NEAR_TIE)
    assert sum(p.numel() for p in small.parameters()) == metrics["pruned"]["parameters"]
    assert not (folder / "RUN" / "checkpoints").exists()


def test_rounds_are_kept_and_only_cut_more(tmp_path: Path, monkeypatch) -> None:
    """Three rounds, killed in the second one's tuning; the plan ends within the rounds' plans."""
    folder = prepare(tmp_path)
    content = {
        **CONFIG,
        "budgets": ["50%"],
        "rounds": {"count": 3, "epochs": 2},
        "finetune": {"epochs": 1, "batch": 12, "repair": 24},
        "out": "RUN",
    }
    (folder / "rounds.yaml").write_text(json.dumps(content))
    command = ("run", "rounds.yaml")
    first = folder / "RUN" / "round-1.safetensors"
    kill_when(
        start(folder, *command),
        lambda: first.is_file() and "round 1" in RunFolder(folder / "RUN").read_state()["steps"],
    )
    before = first.read_bytes()
    said = finish(start(folder, *command))
    assert first.read_bytes() == before
    steps = RunFolder(folder / "RUN").read_state()["steps"]
    assert {"round 1", "round 2", "solve", "finetune"} <= set(steps)
    plans = [
        pruner.Plan.from_json(json.dumps(read_tensors(folder / "RUN" / name, "round")[1]["plan"]))
        for name in ("round-1.safetensors", "round-2.safetensors")
    ]
    plans.append(pruner.Plan.load(folder / "RUN" / "plan.json"))
    for wide, narrow in itertools.pairwise(plans):
        assert set(wide.dropped_blocks()) <= set(narrow.dropped_blocks())
        assert all(set(narrow.keep[n]) <= set(wide.keep[n]) for n in narrow.keep)
    metrics = json.loads((folder / "RUN" / "metrics.json").read_text())
    assert "3 rounds" in metrics["finetune"]
    own = accuracy(pruner.load(folder / "RUN"), folder)
    assert metrics["pruned"]["accuracy"] == pytest.approx(own, abs=NEAR_TIE)
    monkeypatch.chdir(folder)
    assert finish(start(folder, *command)) == said  # nothing is done again


def test_trials_go_on_where_they_were_killed(tmp_path: Path) -> None:
    folder = prepare(tmp_path)
    content = {
        **CONFIG,
        "budgets": ["50%"],
        "solve": {"check": False, "trials": 6},
        "out": "RUN",
    }
    (folder / "trials.yaml").write_text(json.dumps(content))
    command = ("run", "trials.yaml", "--until", "solve")
    scratch = folder / "RUN" / "checkpoints"

    def lines() -> list[str]:
        return [x for file in scratch.glob("trials-*") for x in file.read_text().splitlines() if x]

    kill_when(start(folder, *command), lambda: len(lines()) >= 2)
    kept = lines()
    # Undisturbed, from the same table and scores, it comes to the same.
    shutil.copytree(folder / "RUN", folder / "OTHER")
    shutil.rmtree(folder / "OTHER" / "checkpoints")
    said = finish(start(folder, *command))
    assert kept and not lines()
    finish(start(folder, *command, "--out", "OTHER"))
    plans = [(folder / name / "plan.json").read_text() for name in ("RUN", "OTHER")]
    assert plans[0] == plans[1]
    assert finish(start(folder, *command)) == said  # nothing is done again
