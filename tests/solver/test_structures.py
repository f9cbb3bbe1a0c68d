"""Structures of real networks: published instances, fine steps, concatenations, hard graphs."""

from __future__ import annotations

import numpy as np
import pytest

import solver
from solver import Status

from .problems import (
    concatenation_problem,
    grid_problem,
    load_optima,
    load_published,
    roofline_problem,
)


@pytest.mark.parametrize(
    "name",
    sorted(load_optima())
    or [pytest.param("", marks=pytest.mark.skip("no ../shared/instances: the published ones"))],
)
def test_published_instances_are_proven(name):
    known = load_optima()[name]
    solution = solver.solve(load_published(name))
    assert solution.status == Status.OPTIMAL
    assert solution.value == known["optimum"] and solution.gap == 0.0
    assert solution.cost["latency_us"] <= known["budget_us"]


@pytest.mark.parametrize(
    ("net", "step", "budget"),
    [("resnet50", 64, 0.5), ("resnet50", 64, 0.15), ("deit_tiny", 96, 0.5)],
)
def test_fine_steps_agree_with_milp(net, step, budget):
    problem = roofline_problem(net, step, budget)
    ours, theirs = solver.solve(problem), solver.solve(problem, "milp")
    assert ours.status == theirs.status == Status.OPTIMAL
    assert ours.value == pytest.approx(theirs.value, rel=1e-9)


def test_step_eight_is_proven():
    solution = solver.solve(roofline_problem("deit_tiny", 8, 0.25))
    assert solution.status == Status.OPTIMAL and solution.gap == 0.0


def test_concatenations_agree_with_milp():
    problem = concatenation_problem(layers=5, widest=20)
    ours, theirs = solver.solve(problem), solver.solve(problem, "milp")
    assert ours.status == theirs.status == Status.OPTIMAL
    assert ours.value == pytest.approx(theirs.value, rel=1e-9)
    for k in range(1, 6):
        before, grown = ours.choice[f"sum{k - 1}"], ours.choice[f"grow{k}"]
        assert ours.choice[f"sum{k}"] == min(before + grown + 1, 19)


def test_long_concatenations_are_proven():
    assert solver.solve(concatenation_problem(layers=24, widest=64)).status == Status.OPTIMAL


def test_nested_gates_and_variables_that_a_closed_gate_frees():
    rng = np.random.default_rng(3)
    value = rng.integers(1, 9, (2, 2, 3)).astype(float)
    cost = rng.integers(1, 9, (2, 2, 3)).astype(float)
    value[0], cost[0], value[:, 0], cost[:, 0] = 0.0, 0.0, 0.0, 0.0
    tables = [
        solver.Table("inner", ("outer", "gate", "width"), value, {"ms": cost}),
        solver.Table("skip", ("outer",), np.array([0.0, 2.0]), {"ms": np.array([0.0, 4.0])}),
    ]
    problem = solver.Problem("nested", {"outer": 2, "gate": 2, "width": 3}, tables, {"ms": 0.0})
    for budget in range(15):
        got = solver.solve(problem, budgets={"ms": float(budget)})
        oracle = solver.solve(problem, "brute_force", budgets={"ms": float(budget)})
        assert got.status == oracle.status == Status.OPTIMAL
        assert got.value == oracle.value


def test_too_large_for_elimination_says_so_and_still_proves():
    problem = grid_problem(side=4, options=3)
    exact = solver.solve(problem)
    split = solver.solve(problem, memory_limit_mb=5e-4)
    assert any("variables are split" in note for note in split.notes)
    assert split.status == exact.status == Status.OPTIMAL
    assert split.value == exact.value


def test_too_large_for_elimination_still_bounds_without_proof():
    problem = grid_problem(side=4, options=3)
    exact = solver.solve(problem)
    bounded = solver.solve(problem, "lagrangian", memory_limit_mb=5e-4)
    assert bounded.status == Status.UNPROVEN
    assert bounded.value <= exact.value <= bounded.bound < np.inf


def test_infeasible_where_elimination_is_too_large_still_says_the_smallest_cost():
    problem = grid_problem(side=3, options=3)
    exact = solver.solve(problem, budgets={"ms": 1.0}).infeasibility
    split = solver.solve(problem, budgets={"ms": 1.0}, memory_limit_mb=3e-4).infeasibility
    assert exact is not None and split is not None
    assert split.resource == "ms" and split.smallest_cost == exact.smallest_cost


def test_several_budgets_on_a_real_structure():
    problem = roofline_problem("deit_tiny", 48, 0.5)
    tables = [
        solver.Table(
            t.name,
            t.scope,
            t.value,
            {**t.cost, "size": np.sqrt(t.cost["latency_ms"]), "third": t.cost["latency_ms"] ** 2},
        )
        for t in problem.tables
    ]
    free = solver.Problem("free", problem.options, tables, dict(problem.budgets))
    used = solver.solve(free).cost
    budgets = {**problem.budgets, "size": 0.9 * used["size"], "third": 0.9 * used["third"]}
    tight = solver.Problem("tight", problem.options, tables, budgets)
    ours, theirs = solver.solve(tight), solver.solve(tight, "milp")
    assert ours.status == theirs.status == Status.OPTIMAL
    assert ours.value == pytest.approx(theirs.value, rel=1e-9)
    assert set(ours.prices) == set(budgets)
