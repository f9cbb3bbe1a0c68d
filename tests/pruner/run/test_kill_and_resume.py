"""A run of any task that is killed at any step and called again ends as an undisturbed one.

A kill is an exception that nobody catches, raised where a step says how far it is: what a process
that dies there leaves in the RUN is the same. `CASES` has a line for each kind of task; a new task
adds one. The command in a process of its own, ended by SIGKILL, is in test_commands.py.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import pruner
from pruner.run import tuning_stage
from pruner.run.config import Config
from pruner.run.finetune_stage import finetune
from pruner.run.measure_stage import measure
from pruner.run.solve_stage import solve
from pruner.utils.progress import Advance, SilentProgress

from ..runs import MODEL as CLASSIFIER
from ..runs import prepare
from ..segments import MODEL as SEGMENTER
from ..segments import SOURCE, write_masks

TASKS = """
from pruner.data import wrap_datasets
from pruner.tasks import Segmentation, WrappedTask
from tests.pruner.segments import draw_tensors


class Halved(WrappedTask):
    def loss(self, outputs, targets):
        return {name: 0.5 * value for name, value in self.task.loss(outputs, targets).items()}


def halved():
    return Halved(Segmentation(wrap_datasets((draw_tensors(24), draw_tensors(8, 2)))))

"""


@dataclass(frozen=True)
class Case:
    """A kind of task: its network, what tells the run of it, and what its data needs on disk."""

    model: str
    entries: dict[str, Any]
    prepare: Callable[[Path], object] = lambda folder: None


CASES = {
    "classification": Case(CLASSIFIER, {"data": "data"}, prepare),
    "segmentation": Case(
        SEGMENTER,
        {"data": "data", "task": {"name": "segmentation", "workers": 0}},
        lambda folder: write_masks(folder / "data", 24, 8),
    ),
    "a wrapped task of a part": Case(
        SEGMENTER, {"task": "own_kinds:halved", "submodule": "backbone"}
    ),
}
COMMON = {
    "seed": 3,
    "budgets": ["70%"],
    "measure": {"quick": True, "probes": 5, "library": "none"},
    "score": {"images": 16, "batch_size": 4},
    "solve": {"check": False, "trials": 3, "trial_steps": 2},
    "finetune": {"epochs": 3, "batch": 8, "repair": 16, "evaluate_every": 1},
}
KILLS = {
    solve: (("score", 1), ("score", 2), ("try", 1), ("try", 1)),
    finetune: (("evaluate", 1), ("repair", 1), ("finetune", 2), ("finetune", 5)),
}
"""Verb -> the step, by the first word of its label, and the number of its signs of life."""


class Killed(BaseException):
    """Ends a command as a kill does: nothing of the package catches it."""


class Killer(SilentProgress):
    """Kills at some sign of life of a step."""

    def __init__(self, step: str, count: int) -> None:
        super().__init__()
        self.step, self.left = step, count

    @contextmanager
    def task(self, label: str) -> Iterator[Advance]:
        """Yield a function that counts the signs of the step, and kills."""

        def advance(*values: object, **more: object) -> None:
            self.left -= label.startswith(self.step)
            if self.left == 0:
                raise Killed

        yield advance


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The same bits every time, as docs/tuning.md says: on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", sorted(CASES))
def test_a_killed_run_ends_as_an_undisturbed_one(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[kind]
    case.prepare(tmp_path)
    (tmp_path / "tiny_segmenter.py").write_text(SOURCE)
    (tmp_path / "own_kinds.py").write_text(TASKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    # A step says every sign of life, and tuning keeps every step.
    monkeypatch.setattr("pruner.tuning.reporting._REPORT_EVERY_S", 0.0)
    whole = tuning_stage.finetune
    monkeypatch.setattr(tuning_stage, "finetune", lambda *a, **k: whole(*a, **k, checkpoint_s=0.0))

    config = Config.from_dict({"model": case.model, "out": "RUN", **COMMON, **case.entries})
    measure(config)
    shutil.copytree("RUN", "KILLED")
    for verb in (solve, finetune):
        verb("RUN")
        for step, count in KILLS[verb]:
            with pytest.raises(Killed):
                verb("KILLED", None, Killer(step, count))
        verb("KILLED")
    ours, theirs = (pruner.load(name).state_dict() for name in ("KILLED", "RUN"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert Path("KILLED/plan.json").read_bytes() == Path("RUN/plan.json").read_bytes()
    figures = [json.loads(Path(name, "metrics.json").read_text()) for name in ("KILLED", "RUN")]
    assert figures[0]["pruned"] == figures[1]["pruned"]
    assert not Path("KILLED/checkpoints").exists() and not list(Path("KILLED").glob(".new-*"))
