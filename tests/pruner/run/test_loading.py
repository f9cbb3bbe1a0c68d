"""pruner.load: the network that a RUN's own steps wrote, and no other in its place."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import pruner

from ..runs import prepare, restore_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return restore_run(prepare(tmp_path))


def save_other(folder: Path) -> Path:
    """Save a network of the same kind with other weights, as another run holds one."""
    other = pruner.load(folder)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    pruner.save(other, None, folder.parent / "other")
    return folder.parent / "other" / "model.safetensors"


def test_another_runs_network_is_refused(run: Path) -> None:
    assert (
        pruner.load(run).state_dict().keys()
        == pruner.load(run / "model.safetensors").state_dict().keys()
    )
    shutil.copy(save_other(run), run / "model.safetensors")
    for path in (run, run / "model.safetensors"):
        with pytest.raises(pruner.PrunerError, match=r"model\.safetensors is not what the steps"):
            pruner.load(path)


def test_a_network_of_ones_own_lies_in_a_folder_of_its_own(run: Path) -> None:
    pruner.load(save_other(run).parent)
    (run / "run.json").write_text("{")
    with pytest.raises(pruner.PrunerError, match=r"run\.json"):
        pruner.load(run)
    (run / "run.json").unlink()  # a folder of files, such as one that was deployed
    pruner.load(run)
