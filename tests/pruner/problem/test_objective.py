"""The objective of one structure, against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import solver
from pruner import Importance, Plan, formulate, predict, trace
from pruner.problem import objective_value

from ..networks import Dense, Plain, Residual
from .test_formulate import IMAGE, Rule, random_importance, structures, traced


def test_measured_blocks_correct_what_their_parts_add_up_to():
    net, table = traced(Residual, 4), Rule()
    parts = random_importance(net, 1).parts
    measured = {name: 3.5 + i for i, name in enumerate(net.blocks)}
    importance = Importance("random", parts, measured)
    problem = formulate(net, table, importance, "100%")
    everything = solver.solve(problem).value
    for name, value in measured.items():
        without = {k: v for k, v in problem.options.items()}
        pinned = solver.Table("pin", (f"keep:{name}",), np.array([0.0, -np.inf]), {})
        cut = solver.Problem("pinned", without, [*problem.tables, pinned], problem.budgets)
        assert everything - solver.solve(cut).value == pytest.approx(value)


def random_loss_curves(net, seed):
    """Losses by width and by block, as whole-network criteria give them."""
    rng = np.random.default_rng(seed)
    curves = {
        name: np.append(np.sort(rng.lognormal(size=len(dim.options()) - 1))[::-1], 0.0)
        for name, dim in net.dims.items()
    }
    parts = {name: {"": rng.lognormal(size=dim.size)} for name, dim in net.dims.items()}
    blocks = {name: float(rng.normal(1.0, 1.0)) for name in net.blocks}
    return Importance("loss curves", parts, blocks, curves)


def loss_of(net, importance, sizes, dropped):
    """What a structure loses: its blocks, and the widths of whatever lies in no dropped block."""
    total = sum(max(0.0, importance.blocks[name]) for name in dropped)
    for name, size in sizes.items():
        dim = net.dims[name]
        weights = [slot for slot in dim.slots if slot.role in ("in", "out")]
        if not any(all(block in slot.blocks for slot in weights) for block in dropped):
            total += importance.loss_curves[name][dim.options().index(size)]
    return total


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from([(Residual, 4), (Plain, 5), (Dense, 2)]),
    st.integers(0, 10_000),
    st.floats(0.3, 1.0),
)
def test_the_least_loss_is_that_of_plain_enumeration(case, seed, share):
    net, table = traced(*case), Rule()
    importance = random_loss_curves(net, seed)
    dense = predict(net, table)
    answer = solver.solve(formulate(net, table, importance, budget=share * dense))
    allowed = [
        loss_of(net, importance, sizes, dropped)
        for sizes, dropped in structures(net)
        if predict(net, table, sizes, dropped) <= share * dense * (1 + 1e-12)
    ]
    if not allowed:
        assert answer.status == solver.Status.INFEASIBLE
        return
    assert answer.value == pytest.approx(-min(allowed), rel=1e-9, abs=1e-12)
    plan = Plan.from_solution(net, answer, importance)
    found = objective_value(net, importance, plan.sizes(), plan.dropped_blocks())
    assert found == pytest.approx(answer.value, rel=1e-9, abs=1e-12)
    assert objective_value(net, importance) == 0


class Branches(nn.Module):
    """Two parallel convolutions: one is a Block and names the Dim of their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 8, 3, padding=1)
        self.thin = nn.Conv2d(3, 8, 1)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(torch.relu(self.thin(x) + self.wide(x)).mean((2, 3)))


def test_a_layer_that_names_a_dim_may_be_a_block_too():
    net = trace(Branches().eval(), IMAGE, step=2)
    assert set(net.dims) == set(net.blocks) == {"wide"}
    parts = random_importance(net, 0).parts
    for importance in (random_loss_curves(net, 0), Importance("random", parts, {"wide": 3.0})):
        answer = solver.solve(formulate(net, Rule(), importance, "100%"))
        assert answer.value == pytest.approx(objective_value(net, importance))
