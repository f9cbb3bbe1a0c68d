"""Explanations, baselines, the command line, and what the package imports."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import solver
from solver import MissingSolverError, Status
from solver.__main__ import main

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


def test_the_command_line(tmp_path, capsys):
    problem = concatenation_problem(layers=2, widest=8)
    path = tmp_path / "p.json"
    problem.to_json(path)
    assert main([str(path), "--explain"]) == 0
    printed = capsys.readouterr().out
    assert "optimal" in printed and "sum1 = " in printed and "at the margin" in printed
    assert main([str(path), "--json", "--budget", "ms=1000"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["status"] == "optimal" and plain["budgets"] == {"ms": 1000.0}
    assert main([str(path), "--budget", "ms=0"]) == 1
    assert "smallest reachable ms" in capsys.readouterr().out
    for wrong in (["none.json"], [str(path), "--budget", "mb=1"], [str(path), "--budget", "x"]):
        assert main(wrong) == 2
        assert capsys.readouterr().err.startswith("error: ")


def test_import_is_light():
    code = (
        "import sys, solver; "
        "print([m for m in ('pyomo', 'highspy', 'scipy', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
