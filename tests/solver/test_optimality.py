"""Against the oracle: brute force on thousands of random small problems."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import solver
from solver import Status

from .problems import random_problem, small_problems


def make_settings(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def is_close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9)


def check(problem: solver.Problem, solution: solver.Solution, oracle: solver.Solution) -> None:
    """The solution proves what brute force found."""
    assert solution.status == oracle.status
    assert solution.bound >= oracle.value - 1e-9
    if oracle.choice is None:
        assert solution.choice is None and solution.infeasibility is not None
        return
    assert is_close(solution.value, oracle.value)
    assert solution.gap == 0.0
    value, cost = problem.evaluate(solution.choice)
    assert value == solution.value and cost == solution.cost
    assert all(cost[r] <= b + 1e-9 * max(b, 1.0) for r, b in problem.budgets.items())


@make_settings(1500)
@given(small_problems(resources=1))
def test_auto_is_brute_force_with_one_budget(problem):
    check(problem, solver.solve(problem), solver.solve(problem, "brute_force"))


@make_settings(1000)
@given(small_problems(resources=3))
def test_auto_is_brute_force_with_several_budgets(problem):
    check(problem, solver.solve(problem), solver.solve(problem, "brute_force"))


@make_settings(100)
@given(small_problems(resources=2))
def test_milp_is_brute_force(problem):
    check(problem, solver.solve(problem, "milp"), solver.solve(problem, "brute_force"))


@make_settings(150)
@given(small_problems(resources=2))
def test_auto_is_brute_force_where_variables_must_be_split(problem):
    split = solver.solve(problem, memory_limit_mb=1e-4)
    check(problem, split, solver.solve(problem, "brute_force"))


@make_settings(400)
@given(small_problems(resources=3), st.booleans())
def test_the_bound_is_never_below_the_optimum(problem, tight):
    limit = 1e-4 if tight else 400.0
    solution = solver.solve(problem, "lagrangian", memory_limit_mb=limit)
    oracle = solver.solve(problem, "brute_force")
    assert solution.bound >= oracle.value - 1e-9
    assert solution.value <= oracle.value + 1e-9
    if solution.status == Status.INFEASIBLE:
        assert oracle.status == Status.INFEASIBLE


@make_settings(300)
@given(
    small_problems(resources=2),
    st.sampled_from([1e-9, 1e-3, 0.1, 3.0, 1e6, 1e9]),
    st.sampled_from([1e-9, 1e-3, 0.1, 3.0, 1e6, 1e9]),
)
def test_scale_changes_nothing(problem, value_scale, cost_scale):
    scaled = solver.Problem(
        problem.name,
        problem.options,
        [
            solver.Table(
                t.name,
                t.scope,
                None if t.value is None else t.value * value_scale,
                {r: c * cost_scale for r, c in t.cost.items()},
            )
            for t in problem.tables
        ],
        {r: b * cost_scale for r, b in problem.budgets.items()},
    )
    ours, theirs = solver.solve(problem), solver.solve(scaled)
    assert ours.status == theirs.status
    if ours.choice is None:
        return
    # Tied choices may swap by rounding; each must be optimal in the other's problem.
    assert is_close(problem.evaluate(theirs.choice)[0], ours.value)
    assert math.isclose(
        theirs.value, ours.value * value_scale, rel_tol=1e-9, abs_tol=1e-9 * value_scale
    )
    assert set(ours.prices) == set(theirs.prices)


@make_settings(100)
@given(small_problems(resources=1), st.sampled_from([1e-9, 0.1, 1e9]))
def test_scale_keeps_a_unique_choice(problem, scale):
    best = solver.solve(problem)
    assume(best.choice is not None)
    # Unique optimum: forbidding each chosen option in turn makes it worse.
    for v, option in best.choice.items():
        if problem.options[v] == 1:
            continue
        ban = np.zeros(problem.options[v])
        ban[option] = -np.inf
        tables = [*problem.tables, solver.Table("ban", (v,), ban)]
        other = solver.solve(solver.Problem("banned", problem.options, tables, problem.budgets))
        assume(other.value < best.value - 1e-6)
    tables = [
        solver.Table(t.name, t.scope, None if t.value is None else t.value * scale, t.cost)
        for t in problem.tables
    ]
    scaled = solver.Problem("scaled", problem.options, tables, problem.budgets)
    assert solver.solve(scaled).choice == best.choice


@make_settings(200)
@given(small_problems(resources=2), st.sampled_from([0.01, 0.2, 0.5]))
def test_a_requested_gap_is_kept(problem, gap):
    solution = solver.solve(problem, gap=gap)
    oracle = solver.solve(problem, "brute_force")
    assert solution.status in (Status.OPTIMAL, Status.WITHIN_GAP, Status.INFEASIBLE)
    assert solution.bound >= oracle.value - 1e-9
    if solution.choice is not None:
        assert solution.gap <= gap


def test_infeasible_says_the_smallest_reachable_cost():
    rng = np.random.default_rng(5)
    seen = 0
    for _ in range(150):
        problem = random_problem(rng, resources=1, whole=True)
        if "r0" not in problem.budgets:
            continue
        oracle = solver.solve(problem, "brute_force")
        if oracle.status != Status.INFEASIBLE:
            continue
        found = solver.solve(problem).infeasibility
        assert found is not None
        if found.resource is None:
            continue
        seen += 1
        assert found.budget == problem.budgets["r0"] < found.smallest_cost
        assert is_close(sum(found.parts.values()), found.smallest_cost)
        enough = solver.solve(problem, budgets={"r0": max(found.smallest_cost, 0.0)})
        assert enough.status == Status.OPTIMAL or found.smallest_cost < 0
        assert "smallest reachable r0" in str(found)
    assert seen > 5


def test_nothing_admissible_is_infeasible_and_says_so():
    table = solver.Table("never", ("a",), np.full(2, -np.inf), {"ms": np.ones(2)})
    solution = solver.solve(solver.Problem("p", {"a": 2}, [table], {"ms": 5.0}))
    assert solution.status == Status.INFEASIBLE
    assert "no choice is admissible" in str(solution)


@pytest.mark.parametrize("method", ["auto", "milp", "lagrangian", "brute_force"])
def test_no_variables_no_tables_no_budgets(method):
    empty = solver.solve(solver.Problem("empty", {}, [], {}), method)
    assert (empty.status, empty.choice, empty.value) == (Status.OPTIMAL, {}, 0.0)
    free = solver.solve(solver.Problem("free", {"a": 3, "b": 1}, [], {}), method)
    assert free.status == Status.OPTIMAL and set(free.choice) == {"a", "b"}


def test_extreme_offsets_do_not_drown_the_differences():
    tables = [
        solver.Table("big", ("a",), np.array([1e9, 1e9 + 1e-3]), {"ms": np.array([1.0, 2.0])}),
        solver.Table("small", ("b",), np.array([0.0, 2e-3]), {"ms": np.array([1.0, 2.0])}),
    ]
    problem = solver.Problem("offsets", {"a": 2, "b": 2}, tables, {"ms": 3.0})
    assert solver.solve(problem).choice == {"a": 0, "b": 1}


@make_settings(150)
@given(small_problems(resources=3))
def test_guided_labels_are_brute_force(problem):
    """The guide serves large problems only; here it is made for every one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("solver.labels.SMALL", 0)
        check(problem, solver.solve(problem), solver.solve(problem, "brute_force"))


def test_a_start_that_highs_calls_optimal_is_not_believed():
    """HiGHS 1.16 hands this problem's start back as optimal, its bound that of nothing."""
    problem = solver.Problem.from_json(Path(__file__).with_name("start_called_optimal.json"))
    split = solver.solve(problem, memory_limit_mb=1e-4)
    check(problem, split, solver.solve(problem, "brute_force"))
