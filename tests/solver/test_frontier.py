"""The frontier agrees with one solve a budget; the envelope's loss is true."""

from __future__ import annotations

import numpy as np
import pytest

import solver
from solver import Status

from .problems import concatenation_problem, grid_problem, random_problem, roofline_problem


@pytest.mark.parametrize(("resources", "seed", "problems"), [(1, 11, 40), (2, 12, 15)])
def test_a_frontier_is_one_solve_a_budget(resources, seed, problems):
    rng = np.random.default_rng(seed)
    done = 0
    while done < problems:
        problem = random_problem(rng, resources=resources)
        if len(problem.budgets) < resources:
            continue
        done += 1
        many = rng.permutation(12)[:, None] if resources == 1 else rng.integers(0, 10, (6, 2))
        budgets = [{f"r{r}": float(b) for r, b in enumerate(row)} for row in many]
        given = [b["r0"] for b in budgets] if resources == 1 else budgets
        for budget, solution in zip(budgets, solver.frontier(problem, given).solutions):
            alone = solver.solve(problem, "brute_force", budgets=budget)
            assert solution.status == alone.status
            assert solution.budgets == budget
            if alone.choice is not None:
                assert solution.value == pytest.approx(alone.value, rel=1e-9, abs=1e-9)


def test_a_frontier_on_a_real_structure_is_monotone_and_proven():
    problem = roofline_problem("resnet50", 32, 0.5)
    full = problem.budgets["latency_ms"] / 0.5
    front = solver.frontier(problem, [full * s for s in np.linspace(0.1, 1.0, 12)], gap=1e-4)
    assert all(s.proven and s.gap <= 1e-4 for s in front.solutions)
    values = [s.value for s in front.solutions]
    assert values == sorted(values)
    assert front.envelope is not None


def test_the_envelopes_loss_holds_for_every_budget():
    problem = concatenation_problem(layers=3, widest=12)
    curve = solver.envelope(problem, loss=0.0)
    assert curve.complete
    assert list(curve.cost) == sorted(curve.cost) and list(curve.value) == sorted(curve.value)
    slopes = np.diff(curve.value) / np.diff(curve.cost)
    assert (np.diff(slopes) <= 1e-9).all()
    for budget in np.linspace(curve.cost[0], curve.cost[-1] * 1.1, 40):
        exact = solver.solve(problem, budgets={"ms": float(budget)}).value
        on_path = max(v for c, v in zip(curve.cost, curve.value) if c <= budget + 1e-9)
        assert on_path <= exact + 1e-9
        assert exact - on_path <= curve.largest_loss + 1e-9
    for cost, value, choice in zip(curve.cost, curve.value, curve.choices):
        assert problem.evaluate(choice) == (value, {"ms": cost})
        assert solver.solve(problem, budgets={"ms": cost}).value == pytest.approx(value)


def test_a_coarse_envelope_still_tells_its_loss():
    problem = concatenation_problem(layers=4, widest=16)
    coarse = solver.envelope(problem, loss=0.2)
    exact = solver.envelope(problem, loss=0.0)
    assert len(coarse.cost) <= len(exact.cost)
    assert coarse.largest_loss >= exact.largest_loss - 1e-9


def test_an_unreachable_budget_among_others():
    problem = concatenation_problem(layers=2, widest=8)
    front = solver.frontier(problem, [0.0, 1e6])
    assert [s.status for s in front.solutions] == [Status.INFEASIBLE, Status.OPTIMAL]
    assert solver.frontier(problem, []).solutions == ()


def test_a_frontier_where_variables_are_split():
    problem = grid_problem(side=3, options=3)
    limit = problem.budgets["ms"]
    front = solver.frontier(problem, [limit, 0.8 * limit], memory_limit_mb=3e-4)
    assert front.envelope is None
    for budget, solution in zip([limit, 0.8 * limit], front.solutions):
        assert solution.value == solver.solve(problem, budgets={"ms": budget}).value


def test_no_time_is_no_error():
    problem = concatenation_problem(layers=4, widest=16)
    curve = solver.envelope(problem, time_limit_s=1e-9)
    exact = solver.envelope(problem, loss=0.0)
    assert not curve.complete and curve.largest_loss >= exact.largest_loss
    (solution,) = solver.frontier(problem, [problem.budgets["ms"]], time_limit_s=1e-9).solutions
    assert solution.status == Status.TIME_LIMIT and solution.value <= solution.bound


def test_an_envelope_beyond_the_memory_limit_is_refused_by_its_size():
    with pytest.raises(solver.ProblemError, match="needs [0-9,]+ entries"):
        solver.envelope(grid_problem(side=3, options=3), memory_limit_mb=3e-4)
