"""Structures that grow from a plan, against plain enumeration."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import solver
from pruner import Plan, formulate, predict

from ..networks import Attention, Dense, Plain, Residual
from .test_constraints import Nested
from .test_formulate import Rule, random_importance, structures, traced


def value_beyond(net, importance, beyond, sizes, dropped):
    """The importance that a structure keeps if what a plan keeps comes first, by definition."""
    blocks = {located.cell.name: located.blocks for located in net.located}
    total = 0.0
    for name, size in sizes.items():
        scores, first = importance.total(name), set(beyond.keep.get(name, ()))
        best = sorted(range(len(scores)), key=lambda i: (i not in first, -scores[i]))[:size]
        for cell, part in importance.parts[name].items():
            if not set(dropped).intersection(blocks.get(cell, ())):
                total += part[best].sum()
    return total


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([(Residual, 4), (Plain, 5), (Dense, 2), (Attention, 2), (Nested, 2)]),
    st.integers(0, 10_000),
    st.floats(0.3, 1.0),
)
def test_what_grows_best_is_that_of_plain_enumeration(case, seed, share):
    net, table = traced(*case), Rule()
    importance = random_importance(net, seed)
    beyond = Plan.random(net, 0.4, seed, drop_blocks=0.5).without_idle_dims(net)
    limit = share * predict(net, table)
    answer = solver.solve(formulate(net, table, importance, limit, beyond=beyond))
    stays = {name for name, one in beyond.blocks.items() if one}
    values = [
        value_beyond(net, importance, beyond, sizes, dropped)
        for sizes, dropped in structures(net)
        if predict(net, table, sizes, dropped) <= limit * (1 + 1e-12)
        and not stays & set(dropped)
        and all(sizes[name] >= len(kept) for name, kept in beyond.keep.items())
    ]
    if not values:
        assert answer.status == solver.Status.INFEASIBLE
        return
    assert answer.value == pytest.approx(max(values), rel=1e-9)
    plan = Plan.from_solution(net, answer, importance, beyond=beyond)
    assert all(set(kept) <= set(plan.keep[name]) for name, kept in beyond.keep.items())
    own = value_beyond(net, importance, beyond, plan.sizes(), plan.dropped_blocks())
    assert own == pytest.approx(answer.value)


def test_dims_within_dropped_blocks_bind_nothing():
    net = traced(Nested, 2)
    plan = Plan.dense(net)
    block = next(name for name in net.blocks if name.startswith("mlps"))
    dropped = Plan(plan.keep, {**plan.blocks, block: False})
    left = dropped.without_idle_dims(net)
    assert plan.without_idle_dims(net) == plan
    assert set(plan.keep) - set(left.keep) == {n for n in plan.keep if n.startswith(f"{block}.")}
    assert np.all([left.keep[name] == plan.keep[name] for name in left.keep])
