"""Paths and combined tasks from the command line and YAML: solved, killed, told what is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pruner.importance.score import score
from pruner.run.cli import main
from pruner.run.context import open_run
from pruner.run.rotation_stage import draw_batches
from pruner.run.run_folder import RunFolder
from pruner.run.solve_stage import solve
from pruner.structure.importance import Importance

from ..every_task import CASES
from ..runs import prepare, restore_run
from .test_kill_and_resume import Killed, Killer

QUICK = ("--quick", "--probes", "5", "--library", "none")
SOLVE = ("solve", "RUN", "--budget", "92%", "--no-check", "--images", "16")


@pytest.fixture(autouse=True)
def one_thread():
    """The same bits every time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return restore_run(tmp_path)


def read_key(run: Path, step: str = "score") -> str:
    return RunFolder(run).read_state()["steps"][step]["key"]


def test_a_killed_path_goes_on_to_the_same_scores(run: Path) -> None:
    shutil.copytree("RUN", "KILLED")
    changes = {
        "budgets": ["75%"], "solve": {"check": False},
        "score": {"criterion": "path", "path_steps": 50, "images": 24, "batch_size": 4},
    }  # fmt: skip
    solve("RUN", changes)
    for count in (7, 25, 32):  # in the search, behind what it keeps, and while widths are measured
        with pytest.raises(Killed):
            solve("KILLED", changes, Killer("score", count))
        assert Path("KILLED/checkpoints").exists() == (count > 20)
    solve("KILLED", changes)
    for name in ("importance.safetensors", "plan.json"):
        assert Path("KILLED", name).read_bytes() == Path("RUN", name).read_bytes()
    assert not Path("KILLED/checkpoints").exists()
    found = Importance.load("RUN/importance.safetensors")
    assert found.criterion == "path, measured curves" and found.loss_curves


def test_paths_are_set_and_their_settings_are_in_the_keys(run: Path, capsys) -> None:
    quick = ("--set", "score.path_steps=5", "--budget", "75%", "--images", "16", "--no-check")
    path = ("solve", "RUN", *quick, "--criterion", "path")
    assert main([*path]) == 0
    first = read_key(run)
    assert main([*path, "--curves", "own"]) == 0
    second = read_key(run)
    literal = Importance.load("RUN/importance.safetensors")
    assert literal.criterion == "path" and not literal.loss_curves
    assert main([*path, "--curves", "auto", "--set", "score.path_form=released"]) == 0
    assert len({first, second, read_key(run)}) == 3
    assert main([*path, "--set", "score.path_form=coupled"]) == 0 and read_key(run) == first
    assert main(["frontier", "RUN", "--points", "3"]) == 0  # of the scores that are there
    assert read_key(run) == first
    assert main([*path, "--set", "score.path_form=paired"]) == 2
    assert "path_form" in capsys.readouterr().err
    assert main([*path, "--combine", "unanimous"]) == 2
    assert "only one: classification" in capsys.readouterr().err
    rounds = ("--rounds", "2", "--round-epochs", "0")
    assert main([*path, *rounds]) == 0
    assert Importance.load("RUN/round-1-importance.safetensors").criterion.startswith("path")


def test_tasks_are_combined_in_a_run(tmp_path: Path, monkeypatch, capsys) -> None:
    case = CASES["several"]
    monkeypatch.chdir(tmp_path)
    case.write(tmp_path / "data")
    task = json.dumps(dict(case.settings))
    assert main(["measure", case.network, "--out", "RUN", *QUICK]) == 0
    tell = (*SOLVE, "--data", "data", "--task", task, "--criterion", "taylor")
    assert main([*tell]) == 0
    keys = {read_key(tmp_path / "RUN")}
    for how in ("unanimous", "ranks", "sum", "max"):
        assert main([*tell, "--combine", how]) == 0
        keys.add(read_key(tmp_path / "RUN"))
        found = Importance.load("RUN/importance.safetensors")
        assert found.criterion == f"taylor, {how} over seg, far"
        with open_run("RUN") as space:
            expected = score(space.net, draw_batches(space), None, "taylor", task=space.task,
                             combine=how)  # fmt: skip
            assert all(
                np.allclose(found.total(n), expected.total(n), rtol=1e-4) for n in space.net.dims
            )
    assert len(keys) == 5
    assert main([*tell, "--combine", "unanimous", "--curves", "measured"]) == 0
    assert Importance.load("RUN/importance.safetensors").loss_curves
    assert main([*tell, "--combine", "all"]) == 2
    assert "combine" in capsys.readouterr().err
    assert main([*tell, "--criterion", "measured", "--combine", "ranks", "--curves", "auto"]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert "ranks are of indices" in told[-1]
    one = {"name": "several", "tasks": {"seg": case.settings["tasks"]["seg"]}}
    tell = (*SOLVE, "--data", "data", "--task", json.dumps(one), "--criterion", "taylor")
    assert main([*tell, "--combine", "sum", "--curves", "auto"]) == 2
    assert "only one: seg" in capsys.readouterr().err


def test_a_configuration_says_the_same(run: Path) -> None:
    Path("run.yaml").write_text(
        """
model: tiny_network:make
out: OTHER
data: data
budget: 92%
measure: {quick: true, probes: 5, library: none}
score: {criterion: taylor, curves: measured, images: 16}
solve: {check: false}
"""
    )
    assert main(["run", "run.yaml"]) == 0
    found = Importance.load("OTHER/importance.safetensors")
    assert found.criterion == "taylor, measured curves" and found.loss_curves
