"""Further budgets and constraints against plain enumeration of the network's structures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import solver
from pruner import Plan, PrunerError, apply, formulate, predict, trace
from pruner.problem import Constraints, Limit, find_matches
from pruner.structure import count_macs, count_memory, count_parameters, find_memory_points

from ..networks import Attention, Dense, Plain, Residual
from .test_formulate import IMAGE, Rule, objective_value, random_importance, structures, traced


class Other(Rule):
    """Another device: only what is read counts."""

    def predict(self, spec, sizes, network_ms=None):
        return 0.2 + 0.03 * np.asarray(sizes, float)[:, 0]


class Nested(nn.Module):
    """A Block within a Block, two MLPs of one width and a third of another."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.one, self.two = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Conv2d(4, n, 1), nn.ReLU(), nn.Conv2d(n, 4, 1)) for n in (4, 4, 6)
        )
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        y = torch.relu(self.one(x))
        x = x + torch.relu(y + self.two(y))
        for mlp in self.mlps:
            x = x + mlp(x)
        return self.head(x.mean((2, 3)))


def check(net, budget, constraints, allowed):
    """The solver's answer is the best of all structures that a predicate allows."""
    table, importance = Rule(), random_importance(net, 5)
    limit = budget * predict(net, table)
    answer = solver.solve(formulate(net, table, importance, limit, constraints=constraints))
    values = [
        objective_value(net, importance, sizes, dropped)
        for sizes, dropped in structures(net)
        if predict(net, table, sizes, dropped) <= limit * (1 + 1e-12) and allowed(sizes, dropped)
    ]
    if not values:
        assert answer.status == solver.Status.INFEASIBLE
        return None
    assert answer.value == pytest.approx(max(values), rel=1e-9)
    plan = Plan.from_solution(net, answer, importance)
    assert allowed(plan.sizes(), plan.dropped_blocks())
    return plan


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([(Residual, 4), (Plain, 5), (Dense, 2), (Attention, 2), (Nested, 2)]),
    st.lists(st.sampled_from(["params", "macs", "memory", "other"]), min_size=1, max_size=3,
             unique=True),
    st.floats(0.3, 1.0),
)  # fmt: skip
def test_further_budgets_are_those_of_plain_enumeration(case, resources, share):
    net = traced(*case)
    limits = tuple(
        Limit(name, f"{100 * share:.6g}%", Other() if name == "other" else None)
        for name in resources
    )

    points = find_memory_points(net)
    amounts = [one.to_amount(net) * (1 + 1e-12) for one in limits]

    def measure(limit, sizes, dropped):
        if limit.resource == "memory":
            return count_memory(net, sizes, dropped, points)
        return limit.measure(net, sizes, dropped)

    def allowed(sizes, dropped):
        return all(measure(one, sizes, dropped) <= most for one, most in zip(limits, amounts))

    check(net, 0.8, Constraints(limits=limits), allowed)


@pytest.mark.parametrize("kind", [(Residual, 4), (Nested, 2), (Attention, 2)])
def test_what_is_counted_is_what_is_cut(kind):
    net = traced(*kind)
    plan = Plan.random(net, 0.5, 3, 0.3)
    small = apply(net, plan)
    structure = plan.sizes(), plan.dropped_blocks()
    assert Limit("params", "1M").measure(net, *structure) == sum(
        p.numel() for p in small.parameters()
    )
    assert Limit("macs", "1M").measure(net, *structure) == count_macs(trace(small, IMAGE))
    assert Limit("memory", "1MB").measure(net, *structure) == count_memory(net, *structure)


@pytest.mark.parametrize(
    ("text", "amount"),
    [("params=1.5M", 1.5e6), ("params=300", 300), ("macs=2G", 2e9), ("memory=6MB", 6e6),
     ("memory=2KiB", 2048), ("memory=5e3b", 5e3)],
)  # fmt: skip
def test_amounts_as_they_are_written(text, amount):
    assert Limit.parse(text).to_amount(traced(Plain, 5)) == amount


def test_shares_are_of_dense():
    net = traced(Residual, 4)
    assert Limit.parse("params=40%").to_amount(net) == pytest.approx(0.4 * count_parameters(net))
    assert Limit.parse("macs=40%").to_amount(net) == pytest.approx(0.4 * count_macs(net))
    assert Limit("b", "40%", Other()).to_amount(net) == pytest.approx(0.4 * predict(net, Other()))


@pytest.mark.parametrize(
    "text", ["params", "params=", "params=-1M", "params=0", "params=1ms", "memory=3", "flops=3M",
             "macs=x", "memory=5Q"],
)  # fmt: skip
def test_malformed_limits_are_refused_with_what_is_expected(text):
    with pytest.raises(PrunerError, match="expected an amount such as|cannot limit"):
        Limit.parse(text)


def test_a_limit_on_the_way_is_between_dense_and_its_own():
    net = traced(Residual, 4)
    for limit in (Limit.parse("params=25%"), Limit.parse("memory=64%"), Limit("b", "9%", Other())):
        dense, end = limit.measure(net), limit.to_amount(net)
        half = limit.loosen(net, 0.5)
        assert half.to_amount(net) == pytest.approx((dense * end) ** 0.5)


def test_kept_dims_and_blocks_stay():
    net = traced(Nested, 2)
    for glob in ("mlps.0", "mlps.*", "two", "stem"):
        dims, blocks = find_matches(net, glob, "keep")
        outer = {o for name in blocks for o in net.blocks[name].inside}

        stays = {*blocks, *outer}

        def allowed(sizes, dropped, dims=dims, stays=stays):
            return not stays.intersection(dropped) and all(
                sizes[name] == net.dims[name].size for name in dims
            )

        check(net, 0.6, Constraints(keep=(glob,)), allowed)
    assert any(net.blocks[name].inside for name in net.blocks)


def test_least_widths_and_steps():
    net = traced(Nested, 1)
    assert check(
        net, 0.6, Constraints(min_width={"mlps.*": 3, "stem": "50%"}, step={"mlps.2": 3}),
        lambda sizes, dropped: all(sizes[f"mlps.{i}.0"] >= 3 for i in range(3))
        and sizes["stem"] >= 2 and sizes["mlps.2.0"] % 3 == 0,
    )  # fmt: skip


def test_a_least_width_above_a_dim_keeps_it_whole():
    net = traced(Nested, 2)
    check(
        net, 0.9, Constraints(min_width={"mlps.*": 5}),
        lambda sizes, dropped: sizes["mlps.0.0"] == sizes["mlps.1.0"] == 4
        and sizes["mlps.2.0"] == 6,
    )  # fmt: skip


@pytest.mark.parametrize("depth", [0, 1, 2, 9])
def test_depth_counts_blocks_that_stay(depth):
    net = traced(Nested, 2)

    def allowed(sizes, dropped):
        gone = set(dropped)
        kept = [n for n, b in net.blocks.items() if not gone.intersection((n, *b.inside))]
        return len(kept) <= depth

    check(net, 0.8, Constraints(max_depth=depth), allowed)


def test_no_block_is_dropped():
    check(traced(Nested, 2), 0.6, Constraints(blocks=False), lambda sizes, dropped: not dropped)


def test_uniform_widths_are_the_same_wherever_they_match():
    net = traced(Nested, 2)
    plan = check(
        net, 0.6, Constraints(uniform=("mlps.*",)),
        lambda sizes, dropped: len({sizes[f"mlps.{i}.0"] for i in range(3)}) == 1,
    )  # fmt: skip
    assert plan is not None


@pytest.mark.parametrize(
    "constraints",
    [{"keep": ("layer9.*",)}, {"min_width": {"mlp.*": 3}}, {"step": {"mlps.7.*": 2}},
     {"uniform": ("mpls.*",)}],
)  # fmt: skip
def test_a_glob_that_matches_nothing_names_the_nearest(constraints):
    net = traced(Nested, 2)
    with pytest.raises(PrunerError, match=r"matches no dim.*of Nested: (did you mean|there are)"):
        formulate(net, Rule(), random_importance(net, 0), "50%",
                  constraints=Constraints(**constraints))  # fmt: skip


@pytest.mark.parametrize("value", ["wide", -3, True, "5.5"])
def test_widths_that_are_none_are_refused(value):
    net = traced(Nested, 2)
    with pytest.raises(PrunerError, match="min_width of 'stem': expected a width such as 16"):
        Constraints(min_width={"stem": value}).tabulate(net)


def test_a_network_that_cannot_meet_all_budgets_says_which():
    net = traced(Residual, 4)
    constraints = Constraints(limits=(Limit.parse("params=1"),))
    answer = solver.solve(
        formulate(net, Rule(), random_importance(net, 0), "90%", constraints=constraints)
    )
    assert answer.infeasibility.resource == "params"
