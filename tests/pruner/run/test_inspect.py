"""What inspect prints: families of names, shares that are true, what is frozen by name."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import pruner
from pruner.models.input_config import InputPreset
from pruner.models.load import DenseModel
from pruner.models.weights import digest
from pruner.run.inspect import inspect_network
from pruner.utils.name_ranges import group_names

from ..networks import Odd, Residual


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["blocks.0.mlp", "blocks.1.mlp", "blocks.2.mlp", "head"], ["blocks.{0-2}.mlp", "head"]),
        (["a1.b0", "a1.b1", "a2.b0", "a2.b1"], ["a{1,2}.b{0,1}"]),
        (["a1.b0", "a1.b1", "a2.b0"], ["a1.b{0,1}", "a2.b0"]),
        (["x9", "x10", "x11", "x13"], ["x{9-11,13}"]),
        (["conv", "norm"], ["conv", "norm"]),
    ],
)
def test_names_of_families(names: list[str], expected: list[str]) -> None:
    assert [family for family, _ in group_names((name, None) for name in names)] == expected


@given(st.sets(st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from("ab")), min_size=1))
def test_families_share_out_all_names(found: set[tuple[int, int, str]]) -> None:
    names = [f"s{x}.{y}.{z}" for x, y, z in sorted(found)]
    groups = group_names((name, name[-1]) for name in names)
    assert sorted(name for _, members in groups for name in members) == sorted(names)
    assert len({family for family, _ in groups}) == len(groups)


def dense(module: nn.Module) -> DenseModel:
    return DenseModel("odd", module, None, digest(module), InputPreset())


def test_shares_are_those_of_the_smallest_network() -> None:
    model = Residual().eval()
    net = pruner.trace(model, (torch.zeros(2, 3, 8, 8),), step=1, name="net")
    outcome = inspect_network(net, dense(model))
    least = pruner.Plan(
        {name: (0,) for name in net.dims}, {name: False for name in net.blocks}
    )  # fmt: skip
    small = pruner.apply(net, least)
    whole, left = (sum(p.numel() for p in m.parameters()) for m in (model, small))
    assert outcome.data["shares"]["parameters"] == pytest.approx(1 - left / whole)
    assert f"parameters: {whole:,}" in outcome.text


def test_what_is_frozen_is_named_with_its_module_and_its_parameters() -> None:
    model = Odd().eval()
    net = pruner.trace(model, (torch.zeros(2, 3, 8, 8),), step=1, name="net")
    outcome = inspect_network(net, dense(model))
    assert "linalg_matrix_exp" in outcome.data["unknown"]
    assert "operator linalg_matrix_exp has no rule; called in net" in outcome.text
    line = next(line for line in outcome.text.splitlines() if "linalg_matrix_exp" in line)
    # Its channels are locked; what it reads from the free convolution before it is not.
    locked = model.locked.bias.numel() + model.head.weight.numel()
    assert "locked.bias" in line and f"locks {locked} parameters" in line


def test_everything_is_every_dim_block_and_cell_by_itself() -> None:
    model = nn.Sequential(*[nn.Conv2d(8 if i else 3, 8, 3) for i in range(60)]).eval()
    net = pruner.trace(model, (torch.zeros(2, 3, 128, 128),))
    brief, whole = (inspect_network(net, dense(model), every).text for every in (False, True))
    assert "59 x {0-58}" in brief and "59 x" not in whole
    assert len(brief.splitlines()) < 25
    for name in (*net.dims, *net.blocks, *(cell.name for cell in net.cells())):
        assert any(line.split()[0].rstrip(":") == name for line in whole.splitlines() if line)


def test_a_fixed_batch_is_said() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(torch.relu(self.a(x)).reshape(3, 8))

    net = pruner.trace(Constant(), (torch.zeros(3, 6),), name="net")
    outcome = inspect_network(net, dense(Constant()))
    assert net.fixed_batch == outcome.data["fixed_batch"] == 3
    assert "batch: 3 only" in outcome.text
    assert net.probe({}).inputs[0].shape == (3, 6)
