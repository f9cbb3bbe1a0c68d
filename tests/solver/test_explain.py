"""Explanations: moves are what the tables say, prices the slope of the envelope."""

from __future__ import annotations

import numpy as np
import pytest

import solver

from .problems import concatenation_problem, random_problem


def test_an_explanations_moves_are_what_evaluate_says():
    rng = np.random.default_rng(4)
    for _ in range(60):
        problem = random_problem(rng)
        solution = solver.solve(problem)
        if solution.choice is None:
            continue
        report = solution.explain(problem)
        for v in report.variables:
            assert v.option == solution.choice[v.variable]
            for move in (v.down, v.up):
                if move is None:
                    continue
                value, cost = problem.evaluate({**solution.choice, v.variable: move.option})
                assert value - solution.value == pytest.approx(move.value, abs=1e-12)
                for r in cost:
                    assert cost[r] - solution.cost[r] == pytest.approx(move.cost[r], abs=1e-12)
                if move.affordable:
                    assert move.value <= 1e-9
        assert str(report) is not None


def test_the_price_is_the_slope_of_the_envelope():
    problem = concatenation_problem(layers=4, widest=16)
    curve = solver.envelope(problem, loss=0.0)
    middle = len(curve.cost) // 2
    budget = (curve.cost[middle] + curve.cost[middle + 1]) / 2
    price = solver.solve(problem, "lagrangian", budgets={"ms": budget}).prices["ms"]
    slope = (curve.value[middle + 1] - curve.value[middle]) / (
        curve.cost[middle + 1] - curve.cost[middle]
    )
    assert price == pytest.approx(slope)


def test_no_choice_no_explanation():
    problem = concatenation_problem(layers=2, widest=8)
    nothing = solver.solve(problem, budgets={"ms": 0.0})
    with pytest.raises(solver.ProblemError, match="nothing to explain"):
        solver.explain(problem, nothing)
