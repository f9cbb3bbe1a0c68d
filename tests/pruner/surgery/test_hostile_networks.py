"""Networks whose seal is right and whose content means harm: refused, and nothing executed."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.utils._pytree import tree_leaves

from benchmarks.faults.networks import CHANGES
from pruner import Plan, PrunerError, apply, load, save, trace
from pruner.utils import read_tensors, write_tensors

from ..networks import Residual, shake

HARMLESS = {
    "holds code in its own name",
    "nests results in a class of os",
    "has a layer without numbers",
}
"""What nothing is made of: a name, a class that is not imported, a layer that is not called."""


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("honest")
    net = trace(shake(Residual()), (torch.zeros(2, 3, 8, 8),), step=1)
    save(apply(net, Plan.random(net, seed=0)), None, folder)
    return folder / "model.safetensors"


@pytest.mark.parametrize("kind", CHANGES)
def test_it_is_refused_by_name_and_nothing_is_executed(kind, honest, tmp_path):
    tensors, header = read_tensors(honest, "network")
    changed, mark = copy.deepcopy(header), tmp_path / "executed"
    CHANGES[kind](changed, str(mark))
    write_tensors(tmp_path / "model.safetensors", "network", tensors, changed)
    image = torch.rand(1, 3, 8, 8)
    if kind in HARMLESS:
        found, expected = (tree_leaves(load(p)(image))[0].flatten() for p in (tmp_path, honest))
        assert torch.equal(found, expected)
    else:
        with pytest.raises(PrunerError, match=r"model\.safetensors"):
            load(tmp_path)
    assert not mark.exists()
