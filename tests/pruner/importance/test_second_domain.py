"""A second domain: offered to criteria that look at both, and in the keys of theirs alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pruner.importance import CRITERIA
from pruner.importance.magnitude import Magnitude
from pruner.run.cli import main
from pruner.run.run_folder import RunFolder
from pruner.tasks import Task

from ..every_task import save
from ..runs import prepare, restore_run


class Shift(Magnitude):
    """Weights times the mean of the second domain's first batch."""

    name = "shift"
    needs = "activations"
    needs_target = True

    def contribution(self, subject, slot) -> torch.Tensor:
        inputs, targets = next(iter(subject.task.target.train(4, augment=False)))
        assert targets is None and inputs.shape[1:] == (3, 16, 16)
        return super().contribution(subject, slot) * float(inputs.abs().mean())


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(CRITERIA, "shift", Shift)
    dice = np.random.default_rng(0)
    for k in range(4):
        save(tmp_path / "other" / "deep", f"{k}.png", dice.integers(0, 9, (16, 16, 3), np.uint8))
    return restore_run(tmp_path)


def read_key(run: Path, step: str = "solve") -> str:
    return RunFolder(run).read_state()["steps"][step]["key"]


def test_criteria_get_it_and_only_their_keys_hold_it(run: Path, capsys) -> None:
    solve = ("solve", str(run), "--budget", "75%", "--no-check", "--images", "16")
    assert main([*solve, "--criterion", "shift"]) == 2
    assert "second domain" in capsys.readouterr().err
    assert main([*solve, "--criterion", "shift", "--target-data", "other"]) == 0
    first = read_key(run)
    assert main([*solve, "--criterion", "shift", "--target-data", "other"]) == 0
    assert read_key(run) == first
    save(run.parent / "other", "more.png", np.zeros((16, 16, 3), np.uint8))
    assert main([*solve, "--criterion", "shift"]) == 0
    assert read_key(run) != first
    assert main([*solve, "--criterion", "magnitude"]) == 0
    plain = read_key(run)
    save(run.parent / "other", "another.png", np.zeros((16, 16, 3), np.uint8))
    assert main([*solve, "--criterion", "magnitude"]) == 0 and read_key(run) == plain
    assert main([*solve, "--criterion", "shift", "--target-data", "nowhere"]) == 2
    assert "no such data folder" in capsys.readouterr().err
    assert Task().target is None
