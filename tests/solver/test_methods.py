"""The baselines: the knapsack over frozen widths, and the published formulation."""

from __future__ import annotations

import numpy as np
import pytest

import solver
from solver import MissingSolverError, Status

from .problems import concatenation_problem, random_problem


def test_knapsack_freezes_input_widths():
    # Two layers in a row, three widths each: cost in * out.
    width = np.arange(1.0, 4.0)
    tables = [
        solver.Table("one", ("a",), 10 * width, {"ms": 3 * width}),
        solver.Table("two", ("b", "a"), 4 * width[:, None], {"ms": np.outer(width, width)}),
    ]
    problem = solver.Problem("chain", {"a": 3, "b": 3}, tables, {"ms": 15.0})
    # At frozen width 3: cost(a) = 3a, cost(b) = 3b; best of 10a + 4b with 3a + 3b <= 15.
    solution = solver.solve(problem, "knapsack")
    assert solution.status == Status.UNPROVEN and solution.gap == float("inf")
    assert solution.choice == {"a": 2, "b": 1}
    assert solution.cost == {"ms": 9.0 + 6.0}


def test_knapsack_never_beats_the_optimum():
    rng = np.random.default_rng(8)
    for _ in range(80):
        problem = random_problem(rng)
        baseline, best = solver.solve(problem, "knapsack"), solver.solve(problem)
        assert baseline.value <= best.value + 1e-9


def test_mindtpy_says_what_to_install_or_finds_a_choice():
    problem = concatenation_problem(layers=1, widest=6)
    try:
        solution = solver.solve(problem, "mindtpy", time_limit_s=20)
    except MissingSolverError as error:
        assert "ipopt" in str(error) and "method='auto'" in str(error)
    else:
        assert solution.value <= solver.solve(problem).value + 1e-9


def test_the_published_formulation_is_the_problem():
    pyo = pytest.importorskip("pyomo.environ")
    from solver.methods.mindtpy import formulate
    from solver.model import build

    rng = np.random.default_rng(2)
    for _ in range(30):
        problem = random_problem(rng, resources=1, inadmissible=False)
        model = build(problem, problem.budgets)
        if not model.sizes or not model.factors:
            continue
        program = formulate(model)
        choice = [int(rng.integers(n)) for n in model.sizes]
        for v, option in enumerate(choice):
            for o, x in program.pick[v].items():
                x.value = float(o == option)
        value, cost = model.evaluate(choice)
        assert -pyo.value(program.value) == pytest.approx(value - model.constant_value)
        for row in program.budgets.values():
            assert pyo.value(row.body) == pytest.approx(float(cost[0] - model.constant_cost[0]))
