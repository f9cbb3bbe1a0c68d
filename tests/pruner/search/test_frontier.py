"""The frontier against separate solves and plain enumeration."""

from __future__ import annotations

import numpy as np
import pytest

import solver
from pruner import PrunerError, formulate, predict
from pruner.problem import Budget, Constraints, Limit
from pruner.search import find_knee, list_drops, spread_budgets, trace_frontier

from ..networks import Dense, Residual
from ..problem.test_formulate import (
    Rule,
    Sensitive,
    objective_value,
    random_importance,
    structures,
    traced,
)


@pytest.mark.parametrize("case", [(Residual, 4), (Dense, 2)])
@pytest.mark.parametrize("rule", [Rule, Sensitive])
def test_every_point_is_what_a_separate_solve_gives_and_what_is_best(case, rule):
    net, table = traced(*case), rule()
    importance = random_importance(net, 1)
    budgets = spread_budgets(net, table, importance, 12)
    points = list(trace_frontier(net, table, importance, budgets))
    assert [str(p.budget) for p in points] == [str(b) for b in budgets]
    assert all(a.value <= b.value and a.budget_ms < b.budget_ms for a, b in zip(points, points[1:]))
    for point in points:
        alone = solver.solve(formulate(net, table, importance, point.budget))
        assert point.value == pytest.approx(alone.value, rel=1e-9)
        assert point.predicted_ms <= point.budget_ms * (1 + 1e-9)
        assert point.value == pytest.approx(
            objective_value(net, importance, point.sizes, point.dropped)
        )
        if rule is Rule:
            assert point.gap == 0
            best = max(
                objective_value(net, importance, *s)
                for s in structures(net)
                if predict(net, table, *s) <= point.budget_ms * (1 + 1e-12)
            )
            assert point.value == pytest.approx(best)


def test_budgets_go_from_the_least_that_is_reachable_to_dense():
    net, table = traced(Residual, 4), Sensitive()
    importance = random_importance(net, 1)
    budgets = spread_budgets(net, table, importance, 7)
    least = min(predict(net, table, *s) for s in structures(net)) / predict(net, table)
    assert len(budgets) == 7
    assert budgets[0].amount / 100 == pytest.approx(least, abs=2e-4)
    assert budgets[0].amount / 100 >= least
    assert budgets[-1].amount == 100
    assert all(Budget.parse(str(budget)) == budget for budget in budgets)


def test_further_limits_end_the_frontier_where_latency_no_longer_binds():
    net, table = traced(Residual, 4), Rule()
    importance = random_importance(net, 1)
    asked = Constraints(limits=(Limit.parse("params=50%"),))
    budgets = spread_budgets(net, table, importance, 5, constraints=asked)
    points = list(trace_frontier(net, table, importance, budgets, constraints=asked))
    free = solver.solve(formulate(net, table, importance, "100%", constraints=asked))
    assert budgets[-1].amount < 100
    assert points[-1].value == pytest.approx(free.value)
    assert all(asked.limits[0].measure(net, p.sizes, p.dropped) <= p.parameters for p in points)


def test_points_that_are_known_are_not_solved_again(monkeypatch):
    net, table = traced(Residual, 4), Rule()
    importance = random_importance(net, 1)
    budgets = spread_budgets(net, table, importance, 6)
    points = list(trace_frontier(net, table, importance, budgets))
    solved = []
    solve = solver.solve
    monkeypatch.setattr(solver, "solve", lambda *a, **k: (solved.append(1), solve(*a, **k))[1])
    known = {str(p.budget): p for p in points[:4]}
    assert list(trace_frontier(net, table, importance, budgets, known=known)) == points
    assert len(solved) == 2


def test_the_knee_is_where_the_curve_turns():
    net, table = traced(Residual, 4), Rule()
    importance = random_importance(net, 1)
    budgets = spread_budgets(net, table, importance, 15)
    points = list(trace_frontier(net, table, importance, budgets))
    ms = np.array([p.budget_ms for p in points])
    value = np.array([p.value for p in points])
    chord = value[0] + (value[-1] - value[0]) * (ms - ms[0]) / (ms[-1] - ms[0])
    assert find_knee(points) == int(np.argmax(value - chord))


def test_what_goes_is_named():
    net, table = traced(Residual, 4), Rule()
    importance = random_importance(net, 1)
    budgets = spread_budgets(net, table, importance, 6)
    points = list(trace_frontier(net, table, importance, budgets))
    for point, above in zip(points, points[1:]):
        told = list_drops(net, above, point)
        gone = [name for name in point.dropped if name not in above.dropped]
        assert told[: len(gone)] == [f"block {name}" for name in gone]
        for text in told[len(gone) :]:
            name, before, _, after = text.split()
            assert (above.sizes[name], point.sizes[name]) == (int(before), int(after))


def test_a_single_point_and_constraints_that_nothing_meets_are_refused():
    net, table = traced(Residual, 4), Rule()
    importance = random_importance(net, 1)
    with pytest.raises(PrunerError, match="points: expected at least 2, got 1"):
        spread_budgets(net, table, importance, 1)
    stays = Constraints(max_depth=0, keep=tuple(net.blocks))
    with pytest.raises(PrunerError, match="no structure meets all constraints"):
        spread_budgets(net, table, importance, 5, constraints=stays)
