"""Branching for several budgets: true bounds whatever is branched on, and its linear program."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

import solver
from solver import Status, branching
from solver.counts import group_alike, limit_count
from solver.mixture import ChoiceMixture
from solver.model import build
from solver.split import split_variables
from solver.tree import BucketTree


def make_streams(rng: np.random.Generator, resources: int, blocks: int = 4) -> solver.Problem:
    """Two residual streams with alike blocks that can be dropped; budgets from tight to ample."""
    options, tables = {"a": int(rng.integers(2, 4)), "b": 3}, []
    names = [f"r{r}" for r in range(resources)]
    for k in range(blocks):
        scope = (f"keep{k}", f"inner{k}", "a" if 2 * k < blocks else "b")
        options |= {f"keep{k}": 2, f"inner{k}": 2}
        work = np.outer(np.arange(1.0, 3.0), np.arange(1.0, options[scope[2]] + 1))
        gain = work ** rng.uniform(0.5, 1.0) + 1.0
        value = np.stack([0 * work, np.where(rng.random(work.shape) < 0.05, -np.inf, gain)])
        cost = {r: np.stack([0 * work, work * rng.uniform(0.5, 1.5) + 2.0]) for r in names}
        tables.append(solver.Table(f"block{k}", scope, value, cost))
    join = {r: np.outer(np.arange(1.0, options["a"] + 1), np.arange(1.0, 4.0)) for r in names}
    tables.append(solver.Table("join", ("a", "b"), None, join))
    dense = {r: sum(float(t.cost[r].max()) for t in tables) for r in names}
    budgets = {r: x * float(rng.uniform(0.05, 0.8)) for r, x in dense.items()}
    return solver.Problem("streams", options, tables, budgets)


@pytest.mark.parametrize("seconds", [1e-4, 1.0])
def test_branching_is_brute_force(monkeypatch, seconds):
    """With labels that have no time, everything down to single options is branched on."""
    halved = []
    halve = branching._halve
    monkeypatch.setattr(branching, "SMALL", 0)
    monkeypatch.setattr(branching, "SECONDS", seconds)
    monkeypatch.setattr(branching, "_halve", lambda *given: halved.append(1) or halve(*given))
    rng = np.random.default_rng(5)
    for number in range(30):
        problem = make_streams(rng, 2 + number % 2)
        answer, oracle = solver.solve(problem), solver.solve(problem, "brute_force")
        assert answer.status == oracle.status
        if oracle.choice is not None:
            assert answer.value == pytest.approx(oracle.value, rel=1e-9)
            assert answer.bound >= oracle.value - 1e-9
    assert halved


def test_branching_over_split_variables_is_brute_force(monkeypatch):
    """A part may need larger tables than the whole did: then its relaxation is weaker."""
    copies = []

    def split(model, search):
        relaxed = split_variables(model, 1)
        copies.append(len(relaxed.sizes) - len(model.sizes))
        return BucketTree(relaxed)

    monkeypatch.setattr(branching, "build_bucket_tree", split)
    monkeypatch.setattr(branching, "SMALL", 0)
    rng = np.random.default_rng(5)
    for _ in range(12):
        problem = make_streams(rng, 3)
        answer, oracle = solver.solve(problem), solver.solve(problem, "brute_force")
        assert answer.status == oracle.status
        if oracle.choice is not None:
            assert answer.value == pytest.approx(oracle.value, rel=1e-9)
    assert any(copies)


def test_a_gap_that_was_asked_for_is_no_more_than_that():
    rng = np.random.default_rng(6)
    for _ in range(20):
        problem = make_streams(rng, 2, blocks=3)
        oracle = solver.solve(problem, "brute_force")
        answer = solver.solve(problem, gap=0.2)
        assert answer.status in (oracle.status, Status.WITHIN_GAP)
        if oracle.choice is not None:
            assert answer.value <= oracle.value + 1e-9 <= answer.bound + 2e-9
            assert answer.gap <= 0.2


def test_a_count_is_a_budget():
    problem = make_streams(np.random.default_rng(0), 2)
    model = build(problem, problem.budgets)
    names = list(problem.options)
    groups = [{names[p] for p in group} for group in group_alike(model)]
    assert any({"keep0", "keep1"} <= group for group in groups)
    group = tuple(names.index(f"keep{k}") for k in (2, 3))
    for most, sign in ((1, 1), (-1, -1)):
        limited = limit_count(model, group, most, sign)
        for kept in range(3):
            options = np.zeros(len(names), dtype=np.int64)
            options[list(group)[:kept]] = 1
            choice = limited.project(options)
            assert choice is not None
            cost = limited.evaluate(choice)[1]
            assert cost[-1] == sign * kept
            assert bool(cost[-1] <= limited.budgets[-1]) == (sign * kept <= most)


def test_a_mixture_is_a_linear_program():
    rng = np.random.default_rng(1)
    for _ in range(50):
        count, resources = int(rng.integers(1, 12)), int(rng.integers(1, 5))
        value, cost = rng.normal(size=count), rng.normal(size=(count, resources))
        cost[0] = -2.0  # within every budget
        room = rng.uniform(-1.0, 1.0, resources)
        mixture = ChoiceMixture(room)
        for v, c in zip(value, cost):
            mixture.add(float(v), c)
        for _ in range(8):
            mixture.solve()
            mixture.widen()
        answer = linprog(
            -value, A_ub=cost.T, b_ub=room, A_eq=np.ones((1, count)), b_eq=[1.0], method="highs"
        )
        assert mixture.value == pytest.approx(-answer.fun, abs=1e-9)
        assert mixture.weights.sum() == pytest.approx(1.0)
        assert (mixture.weights @ cost <= room + 1e-9).all()
        bound = (value - cost @ mixture.prices).max() + mixture.prices @ room
        assert bound == pytest.approx(-answer.fun, abs=1e-9)
