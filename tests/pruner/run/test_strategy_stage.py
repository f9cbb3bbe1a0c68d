"""Solves by strategies: killed at any step they end with the same Plan and weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import latency_tables
import pruner
from pruner.errors import PrunerError
from pruner.run import tuning_stage
from pruner.run.cli import main
from pruner.run.config import Config
from pruner.run.finetune_stage import finetune
from pruner.run.measure_stage import measure
from pruner.run.solve_stage import solve

from ..runs import MODEL, prepare
from .test_kill_and_resume import Killed, Killer, one_thread  # noqa: F401  (a fixture)

ENTRIES: dict[str, Any] = {
    "model": MODEL, "out": "RUN", "data": "data", "budgets": ["60%"], "seed": 3,
    "measure": {"quick": True, "probes": 5, "library": "none"},
    "score": {"images": 16, "batch_size": 8, "criterion": "taylor"},
    "finetune": {"batch": 16, "epochs": 1},
}  # fmt: skip
STRATEGIES: dict[str, dict[str, Any]] = {
    "progressive": {"progressive_steps": 7, "progressive_picks": 3},
    "progressive by gates": {
        "strategy": "progressive", "progressive_steps": 7, "progressive_picks": 3,
        "progressive_by": "gates",
    },
    "explore": {"explore_rounds": 2, "explore_steps": [2, 1, 1]},
}  # fmt: skip


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images and a RUN that was measured."""
    folder = prepare(tmp_path_factory.mktemp("strategies"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        measure(Config.from_dict(ENTRIES))
    return folder


@pytest.fixture
def here(measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(measured, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.syspath_prepend(str(measured))
    return tmp_path / "here"


def read(name: str) -> tuple[dict[str, torch.Tensor], bytes]:
    return pruner.load(name).state_dict(), Path(name, "plan.json").read_bytes()


@pytest.mark.parametrize("name", STRATEGIES)
def test_killed_at_every_step_it_ends_as_an_undisturbed_one(
    name: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pruner.tuning.reporting._REPORT_EVERY_S", 0.0)
    whole = tuning_stage.finetune
    monkeypatch.setattr(tuning_stage, "finetune", lambda *a, **k: whole(*a, **k, checkpoint_s=0.0))
    options = {"strategy": name, **STRATEGIES[name], "check": False}
    changes = {"solve": options}
    shutil.copytree("RUN", "KILLED")
    solve("RUN", changes)
    kills = 0
    while True:
        try:  # "resume", then two steps, of which the first is kept
            solve("KILLED", changes, Killer("strategy", 3 if kills else 2))
            break
        except Killed:
            kills += 1
    assert kills >= 6
    ours, theirs = read("KILLED"), read("RUN")
    assert ours[1] == theirs[1]
    assert all(torch.equal(ours[0][key], theirs[0][key]) for key in theirs[0])
    assert not list(Path("KILLED/checkpoints").glob("strategy-*"))
    before = Path("RUN/run.json").stat().st_mtime_ns
    solve("RUN", changes, Killer("strategy", 1))  # nothing is done again
    assert Path("RUN/run.json").stat().st_mtime_ns == before


def test_what_was_measured_is_not_measured_again(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in its last interval, it goes on with the structure that was measured before."""
    monkeypatch.setattr("pruner.tuning.reporting._REPORT_EVERY_S", 0.0)
    checked = []
    check = latency_tables.check
    monkeypatch.setattr(
        latency_tables, "check", lambda *a, **k: checked.append(1) or check(*a, **k)
    )
    changes = {"solve": {"strategy": "progressive", **STRATEGIES["progressive"], "attempts": 2}}
    with pytest.raises(Killed):
        solve("RUN", changes, Killer("strategy", 7))  # four steps, "resume", two of three
    known, metrics = len(checked), json.loads(Path("RUN/strategy-metrics.json").read_text())
    assert known
    solve("RUN", changes)
    assert len(checked) == known
    assert json.loads(Path("RUN/metrics.json").read_text()) == metrics
    assert metrics["pruned"]["latency_ms"] and metrics["solver"]["status"] == "optimal"
    plan = pruner.Plan.load("RUN/plan.json")
    assert plan == pruner.Plan.load("RUN/strategy-plan.json")


def test_finetune_begins_with_the_weights_that_the_strategy_left(here: Path) -> None:
    solve("RUN", {"solve": {"strategy": "explore", **STRATEGIES["explore"], "check": False}})
    solved = pruner.load("RUN").state_dict()
    finetune("RUN", {"finetune": {"epochs": 0, "recalibrate": 0}})
    tuned = pruner.load("RUN").state_dict()
    assert all(torch.equal(solved[key], tuned[key]) for key in solved)
    metrics = json.loads(Path("RUN/metrics.json").read_text())
    assert "2 rounds of training" in metrics["finetune"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--strategy", "progressive", "--rounds", "2"], "takes no rounds"),
        (["--strategy", "explore", "--trials", "2"], "takes no trials"),
        (["--strategy", "explore", "--explore-steps", "3,4"], "three numbers"),
        (["--strategy", "explore", "--explore-steps", "3,0,4"], "three numbers"),
        (["--strategy", "shrink"], "strategy"),
        (["--strategy", "progressive", "--progressive-steps", "5"], "2 to 5 picks"),
        (["--strategy", "explore", "--set", "data="], "give --data"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    arguments: list[str], said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["solve", "RUN", "--budget", "60%", *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("msprune: ") and said in error


def test_several_processes_are_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(PrunerError, match="process"):
        solve("RUN", {"solve": {"strategy": "explore"}})


def test_a_configuration_names_a_strategy(here: Path) -> None:
    content = {
        **ENTRIES,
        "solve": {"strategy": "explore", "explore_rounds": 1, "explore_steps": [1, 1, 1],
                  "check": False},
    }  # fmt: skip
    Path("run.yaml").write_text(json.dumps(content))
    assert main(["run", "run.yaml", "--until", "solve"]) == 0
    assert {"structure", "strategy", "solve"} <= set(
        json.loads(Path("RUN/run.json").read_text())["steps"]
    )
    content = {**content, "out": "NEW", "rounds": {"count": 2}}
    Path("run.yaml").write_text(json.dumps(content))
    assert main(["run", "run.yaml"]) == 2
    assert not Path("NEW").exists(), "refused before anything is measured"
