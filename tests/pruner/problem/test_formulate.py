"""The problem that the solver sees against plain enumeration of the network's structures."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

import solver
from latency_tables import Calibration, Context
from pruner import Importance, Plan, PrunerError, formulate, predict, score, trace
from pruner.search.solve_and_measure import describe_smallest

from ..networks import Attention, Dense, Plain, Residual

IMAGE = (torch.zeros(2, 3, 8, 8),)
TRACED = {}


class Rule:
    """A latency table by formula: what a table promises, with no device behind it."""

    overhead_ms = 0.25
    error = None
    device = SimpleNamespace(batch=1)

    def predict(self, spec, sizes, network_ms=None):
        weight = 1 + sum(map(ord, spec.operator)) % 7
        if spec != spec.plain:  # of its result a part is read
            weight /= 4
        return 0.1 + 0.01 * weight * np.prod(np.ceil(np.asarray(sizes) / 2), axis=1)

    def predict_total(self, cells, network=""):
        total = sum(float(self.predict(spec, [sizes])[0]) for spec, sizes in cells)
        return self.calibration(None).total_ms(self.overhead_ms + total)

    def calibration(self, net):
        return Calibration()

    def uncut_ms(self, net):
        return predict(net, self)


class FormerRule:
    """A table by formula that was written when `calibration` was called `context`."""

    overhead_ms = 0.25
    error = None

    predict = Rule.predict
    uncut_ms = Rule.uncut_ms

    def predict_total(self, cells, network=""):
        return self.overhead_ms + sum(
            float(self.predict(spec, [sizes])[0]) for spec, sizes in cells
        )

    def context(self, net):
        return Context()


class Crowded(Rule):
    """Networks are slower than their layers add up to."""

    def calibration(self, net):
        return Calibration(1.1)


class Sensitive(Rule):
    """Every layer is slower in a larger network, those of one kind more than the others."""

    @staticmethod
    def exponent(spec):
        return 0.05 if spec.operator == "conv2d" else 0.3

    def predict(self, spec, sizes, network_ms=2.0):
        return super().predict(spec, sizes) * (network_ms / 2.0) ** self.exponent(spec)

    def predict_total(self, cells, network=""):
        cells = list(cells)

        def excess(total):
            parts = [float(self.predict(spec, [sizes], total)[0]) for spec, sizes in cells]
            return self.overhead_ms + sum(parts) - total

        return brentq(excess, 1e-6, 1e6, xtol=1e-12)


def traced(kind, step):
    if (kind, step) not in TRACED:
        torch.manual_seed(0)
        TRACED[kind, step] = trace(kind().eval(), IMAGE, step=step)
    return TRACED[kind, step]


def random_importance(net, seed):
    rng = np.random.default_rng(seed)
    parts = {}
    for name, dim in net.dims.items():
        cells = {slot.cell or "" for slot in dim.slots if slot.role == "out"}
        parts[name] = {cell: rng.lognormal(size=dim.size) for cell in sorted(cells)}
    return Importance("random", parts)


def structures(net):
    """Every choice of sizes and blocks."""
    names = list(net.dims)
    for sizes in itertools.product(*(net.dims[name].options() for name in names)):
        for kept in itertools.product((False, True), repeat=len(net.blocks)):
            dropped = tuple(b for b, stays in zip(net.blocks, kept) if not stays)
            yield dict(zip(names, sizes)), dropped


def objective_value(net, importance, sizes, dropped):
    """The importance that a structure keeps, from the definition."""
    blocks = {located.cell.name: located.blocks for located in net.located}
    total = 0.0
    for name, size in sizes.items():
        best = np.argsort(-importance.total(name), kind="stable")[:size]
        for cell, part in importance.parts[name].items():
            if not set(dropped).intersection(blocks.get(cell, ())):
                total += part[best].sum()
    return total


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([(Residual, 4), (Plain, 5), (Dense, 2), (Attention, 2)]),
    st.integers(0, 10_000),
    st.floats(0.3, 1.0),
)
def test_the_optimum_is_that_of_plain_enumeration(case, seed, share):
    net, table = traced(*case), Rule()
    importance = random_importance(net, seed)
    dense = predict(net, table)
    problem = formulate(net, table, importance, budget=share * dense)
    answer = solver.solve(problem)
    allowed = [
        objective_value(net, importance, sizes, dropped)
        for sizes, dropped in structures(net)
        if predict(net, table, sizes, dropped) <= share * dense * (1 + 1e-12)
    ]
    if not allowed:
        assert answer.status == solver.Status.INFEASIBLE
        return
    assert answer.value == pytest.approx(max(allowed), rel=1e-9)
    plan = Plan.from_solution(net, answer, importance)
    measured = predict(net, table, plan.sizes(), plan.dropped_blocks())
    assert measured == pytest.approx(answer.cost["latency_ms"], rel=1e-9)
    assert objective_value(net, importance, plan.sizes(), plan.dropped_blocks()) == pytest.approx(
        answer.value
    )


@pytest.mark.parametrize("share", [0.5, 0.7, 0.9])
def test_layers_are_those_of_a_network_as_large_as_the_budget(share):
    """Nothing over the budget is admitted, and little below it is lost."""
    net, table = traced(Residual, 4), Sensitive()
    importance = random_importance(net, 3)
    limit = share * predict(net, table)
    answer = solver.solve(formulate(net, table, importance, budget=limit))
    found = {objective_value(net, importance, *s): predict(net, table, *s) for s in structures(net)}
    plan = Plan.from_solution(net, answer, importance)
    taken = predict(net, table, plan.sizes(), plan.dropped_blocks())
    assert taken <= limit * (1 + 1e-9)
    assert taken <= answer.cost["latency_ms"] * (1 + 1e-9)  # there: of a network at the limit
    admitted = [value for value, ms in found.items() if ms <= limit]
    surely = [value for value, ms in found.items() if ms <= limit * (ms / limit) ** 0.3]
    assert max(surely, default=0) * (1 - 1e-9) <= answer.value <= max(admitted) * (1 + 1e-9)


def test_the_reachable_minimum_is_of_its_own_network_not_of_one_as_small_as_the_budget():
    net, table = traced(Residual, 4), Sensitive()
    answer = solver.solve(formulate(net, table, random_importance(net, 0), budget="0.01ms"))
    least = min(predict(net, table, *structure) for structure in structures(net))
    assert answer.infeasibility.smallest_cost < 0.9 * least
    told = describe_smallest(net, table, answer.infeasibility)
    assert float(told.split(" ms")[0]) == pytest.approx(least, rel=1e-3)


def test_the_smallest_reachable_latency_is_told():
    net, table = traced(Residual, 4), Rule()
    answer = solver.solve(formulate(net, table, random_importance(net, 0), budget="0.01ms"))
    least = min(predict(net, table, *structure) for structure in structures(net))
    assert answer.status == solver.Status.INFEASIBLE
    assert answer.infeasibility.smallest_cost == pytest.approx(least)


def test_concatenations_share_their_running_sums():
    """A layer's growing input is the one before and one part more, not a variable of every part."""

    class Ladder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.convs = torch.nn.ModuleList(torch.nn.Conv2d(4 * (i + 1), 4, 1) for i in range(6))
            self.stem = torch.nn.Conv2d(3, 4, 1)
            self.head = torch.nn.Linear(28, 2)

        def forward(self, x):
            x = self.stem(x)
            for conv in self.convs:
                x = torch.cat([x, torch.relu(conv(x))], 1)
            return self.head(x.mean((2, 3)))

    net = trace(Ladder().eval(), IMAGE)
    problem = formulate(net, Rule(), random_importance(net, 0), "50%")
    assert sum(name.startswith("sum:") for name in problem.options) == 6
    assert max(len(table.scope) for table in problem.tables) == 3


def test_queries_keys_and_values_need_no_width_of_their_own():
    """All three go with the number of heads: a variable for their sum would only join it to them,
    and that made solving for a large transformer hopeless."""
    net = traced(Attention, 2)
    problem = formulate(net, Rule(), random_importance(net, 0), "50%")
    named = {f"size:{name}" for name in net.dims} | {f"keep:{name}" for name in net.blocks}
    assert set(problem.options) <= named | {"network"}


def test_a_budget_is_one_for_the_total_and_not_for_the_sum():
    net, table = traced(Residual, 4), Crowded()
    importance = random_importance(net, 3)
    limit = 0.6 * predict(net, table)
    answer = solver.solve(formulate(net, table, importance, "60%"))
    plan = Plan.from_solution(net, answer, importance)
    assert predict(net, table, plan.sizes(), plan.dropped_blocks()) <= limit * (1 + 1e-9)
    fitting = [s for s in structures(net) if predict(net, table, *s) <= limit]
    best = max(objective_value(net, importance, *s) for s in fitting)
    assert objective_value(net, importance, plan.sizes(), plan.dropped_blocks()) == pytest.approx(
        best
    )


def test_a_margin_is_left_unused():
    net, table = traced(Residual, 4), Rule()
    problem = formulate(net, table, random_importance(net, 0), "50%", margin=0.1)
    assert problem.budgets["latency_ms"] == pytest.approx(0.45 * predict(net, table))


def test_a_table_by_formula_of_before_still_serves():
    net = traced(Residual, 4)
    problems = [
        formulate(net, rule(), random_importance(net, 0), "50%") for rule in (Rule, FormerRule)
    ]
    assert problems[0].budgets == pytest.approx(problems[1].budgets)


def test_images_a_second_are_of_the_tables_batch():
    net, table = traced(Residual, 4), Rule()
    table.device = SimpleNamespace(batch=8)
    fps = 1000 * 8 / (0.5 * predict(net, table))  # half of dense
    problem = formulate(net, table, random_importance(net, 0), f"{fps!r}fps")
    assert problem.budgets["latency_ms"] == pytest.approx(0.5 * predict(net, table))


@pytest.mark.parametrize("budget", ["fast", "-3ms", "0%", "ms", "nanms"])
def test_malformed_budgets_are_refused(budget):
    net = traced(Residual, 4)
    with pytest.raises(PrunerError, match="budget"):
        formulate(net, Rule(), random_importance(net, 0), budget)


def test_with_scores_of_the_network_itself():
    net = traced(Plain, 5)
    importance = score(net, None, None, criterion="magnitude")
    answer = solver.solve(formulate(net, Rule(), importance, "60%"))
    plan = Plan.from_solution(net, answer, importance)
    for name, kept in plan.keep.items():
        totals = importance.total(name)
        gone = np.delete(totals, kept)
        assert not len(gone) or totals[list(kept)].min() >= gone.max()
