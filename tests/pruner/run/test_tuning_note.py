"""What a tuning run notes before its first epoch: edited, or another run's, it is made again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import pruner
from pruner.run.tuning_stage import NOTE, _read_note, _write_note

from ..networks import Residual, shake

FIGURES = {"accuracy_before_finetune": 0.25, "others_before_finetune": {"loss": 1.5}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate(("ours", "others")):
        torch.manual_seed(seed)
        net = pruner.trace(shake(Residual()), (torch.zeros(2, 3, 8, 8),), step=1)
        pruner.save(pruner.apply(net, pruner.Plan.random(net, seed=0)), None, tmp_path / name)
        _write_note(tmp_path / name, FIGURES)
    return tmp_path / "ours"


def test_it_comes_back(folder: Path) -> None:
    assert _read_note(folder) == FIGURES
    assert _read_note(folder.parent) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", json.dumps(FIGURES), "\ud800"])
def test_what_is_no_note_is_made_again(folder: Path, text: str) -> None:
    (folder / NOTE).write_bytes(text.encode("utf-8", "surrogatepass"))
    assert _read_note(folder) is None


def test_an_edited_figure_is_made_again(folder: Path) -> None:
    (folder / NOTE).write_text((folder / NOTE).read_text().replace("0.25", "0.35"))
    assert _read_note(folder) is None


@pytest.mark.parametrize("names", [[NOTE], ["model.safetensors"], [NOTE, "model.safetensors"]])
def test_another_runs_are_made_again(folder: Path, names: list[str]) -> None:
    for name in names:
        shutil.copy(folder.parent / "others" / name, folder / name)
    assert _read_note(folder) is None
