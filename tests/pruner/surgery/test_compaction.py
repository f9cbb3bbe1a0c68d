"""A cut network as a Network of its own: the same cuts twice as at once, and its way back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import solver
from pruner import Importance, Plan, apply, formulate, score, trace
from pruner.problem import objective_value
from pruner.surgery.compaction import compact_network, scatter_importance, scatter_tensors
from pruner.surgery.pca_rotation import replace_tensors

from ..networks import Attention, Dense, Plain, Residual, shake
from ..problem.test_formulate import Rule, random_importance

IMAGE = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
TOYS = {kind.__name__: kind for kind in (Residual, Plain, Dense, Attention)}
TRACED = {}


def traced(name):
    if name not in TRACED:
        torch.manual_seed(0)
        TRACED[name] = trace(shake(TOYS[name]()).double(), (IMAGE,), step=2)
    return TRACED[name]


def draw_plan(data, net):
    """A plan by the sizes that the Dims may take."""
    keep = {}
    for name, dim in net.dims.items():
        size = data.draw(st.sampled_from(dim.options()))
        order = data.draw(st.permutations(range(dim.size)))
        keep[name] = tuple(sorted(order[:size]))
    return Plan(keep, {block: data.draw(st.booleans()) for block in net.blocks})


def both(first, second):
    """What the second plan keeps of what the first one left, by the dense network's indices."""
    keep = {
        name: tuple(kept[i] for i in second.keep.get(name, range(len(kept))))
        for name, kept in first.keep.items()
    }
    return Plan(keep, {name: kept and second.blocks[name] for name, kept in first.blocks.items()})


@settings(max_examples=25, deadline=None)
@given(st.data(), st.sampled_from(sorted(TOYS)))
def test_two_cuts_are_one(data, name):
    net = traced(name)
    first = draw_plan(data, net)
    small = compact_network(net, first)
    assert set(small.dims) <= set(net.dims)
    for dim in small.dims.values():
        assert set(dim.options()) <= {*net.dims[dim.name].options(), dim.size}
    second = draw_plan(data, small)
    with torch.no_grad():
        torch.testing.assert_close(small.module(IMAGE), apply(net, first)(IMAGE))
        torch.testing.assert_close(
            apply(small, second)(IMAGE), apply(net, both(first, second))(IMAGE)
        )


@settings(max_examples=25, deadline=None)
@given(st.data(), st.sampled_from(sorted(TOYS)))
def test_weights_go_back_to_where_they_were_cut_from(data, name):
    net = traced(name)
    plan = draw_plan(data, net)
    small = apply(net, plan)
    with torch.no_grad():
        for tensor in small.parameters():
            tensor.mul_(1.5).add_(0.1)
    back = replace_tensors(net, scatter_tensors(net, plan, small))
    again = apply(back, plan)
    assert list(again.state_dict()) == list(small.state_dict())
    for key, tensor in again.state_dict().items():
        assert torch.equal(tensor, small.state_dict()[key]), key


@pytest.mark.parametrize("criterion", ["magnitude", "taylor"])
def test_scores_come_back_to_the_indices_that_they_are_of(criterion):
    """Of a network that was not tuned in between, what stays has the scores of the cut network."""
    torch.manual_seed(0)
    net = trace(shake(Residual()).eval(), (IMAGE.float(),), step=2)
    first = Plan.dense(net)
    plan = Plan({n: kept[:: 2] if len(kept) > 4 else kept for n, kept in first.keep.items()},
                first.blocks)  # fmt: skip
    small = compact_network(net, plan)
    batches = [(torch.randn(4, 3, 8, 8), torch.arange(4))]
    scores = score(small, batches, torch.nn.functional.cross_entropy, criterion)
    wide = scatter_importance(scores, net, plan)
    for name, kept in plan.keep.items():
        gone = np.setdiff1d(np.arange(net.dims[name].size), kept)
        assert np.array_equal(wide.total(name)[list(kept)], scores.total(name))
        assert not wide.total(name)[gone].any()


@pytest.mark.parametrize("name", ["Residual", "Dense"])
def test_a_later_round_only_cuts_more(name):
    """The optimum within a plan, against all structures within it."""
    net = traced(name)
    table, scores = Rule(), random_importance(net, 1)
    first = Plan.from_solution(net, solver.solve(formulate(net, table, scores, "70%")), scores)
    other = random_importance(net, 2)
    problem = formulate(net, table, other, "50%", within=first)
    plan = Plan.from_solution(net, solver.solve(problem), other, first)
    assert set(first.dropped_blocks()) <= set(plan.dropped_blocks())
    for dim, kept in plan.keep.items():
        assert set(kept) <= set(first.keep[dim])
    free = Plan.from_solution(net, solver.solve(formulate(net, table, other, "50%")), other)
    assert (
        objective_value(net, other, plan.sizes(), plan.dropped_blocks())
        <= objective_value(net, other, free.sizes(), free.dropped_blocks()) + 1e-9
    )


def test_loss_curves_come_back_by_their_sizes():
    net = traced("Residual")
    plan = Plan({n: tuple(range(d.options()[-2])) for n, d in net.dims.items()}, {})
    small = compact_network(net, plan)
    parts = {n: {"": np.arange(d.size) + 1.0} for n, d in small.dims.items()}
    curves = {n: np.arange(len(d.options()), 0, -1) - 1.0 for n, d in small.dims.items()}
    wide = scatter_importance(Importance("test", parts, {}, curves), net, plan)
    for name, dim in net.dims.items():
        known = dict(zip(dim.options(), wide.loss_curves[name]))
        assert {n: known[n] for n in small.dims[name].options()} == dict(
            zip(small.dims[name].options(), curves[name])
        )
