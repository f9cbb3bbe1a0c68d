"""Problems of a real size against dynamic programming over integer costs, an oracle of its own.

Brute force reaches a dozen options; the enumeration inside the gap only works hard on more. On a
chain of tables the best value for every total cost is a plain recursion.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import solver
from solver.dominance import select_undominated

from .test_optimality import make_settings


def make_chain(seed: int, silent: float, levels: int) -> solver.Problem:
    """Variables in a row; some without a value of their own, values may repeat, integer costs."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(3, 12, size=14)
    options = {f"x{i}": int(n) for i, n in enumerate(sizes)}
    tables = []
    for i, n in enumerate(sizes):
        if rng.random() >= silent:
            value = np.sort(rng.integers(0, levels, size=n)).astype(float)
            tables.append(solver.Table(f"value{i}", (f"x{i}",), value, {}))
    for i, (n, m) in enumerate(zip(sizes, sizes[1:])):
        cost = np.add.outer(np.arange(n), np.arange(m)) * 3 + rng.integers(0, 9, size=(n, m))
        tables.append(solver.Table(f"cost{i}", (f"x{i}", f"x{i + 1}"), None, {"ms": cost}))
    total = sum(float(np.max(t.cost["ms"])) for t in tables if t.cost)
    return solver.Problem(
        "chain", options, tables, {"ms": float(int(total * rng.uniform(0.2, 0.8)))}
    )


def solve_by_recursion(problem: solver.Problem) -> float:
    """The optimum: best[option of x_i, total cost so far]."""
    budget = int(problem.budgets["ms"])
    names = list(problem.options)
    values = {t.scope[0]: t.value for t in problem.tables if t.value is not None}
    costs = [t.cost["ms"].astype(int) for t in problem.tables if t.cost]

    def own(name: str) -> np.ndarray:
        return values.get(name, np.zeros(problem.options[name]))

    best = np.full((problem.options[names[0]], budget + 1), -np.inf)
    best[:, 0] = own(names[0])
    for name, cost in zip(names[1:], costs):
        following = np.full((problem.options[name], budget + 1), -np.inf)
        for a in range(cost.shape[0]):
            for b in range(cost.shape[1]):
                c = cost[a, b]
                if c <= budget:
                    moved = best[a, : budget + 1 - c]
                    following[b, c:] = np.maximum(following[b, c:], moved)
        best = following + own(name)[:, None]
    return float(best.max())


@make_settings(150)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.3, 0.6]), st.sampled_from([4, 50, 100_000]))
def test_chains_are_solved_to_the_optimum(seed, silent, levels):
    problem = make_chain(seed, silent, levels)
    expected, answer = solve_by_recursion(problem), solver.solve(problem)
    if expected == -np.inf:
        assert answer.status is solver.Status.INFEASIBLE
        return
    assert answer.status is solver.Status.OPTIMAL
    assert answer.value == pytest.approx(expected, rel=1e-12)
    assert answer.bound >= expected - 1e-9 * abs(expected)


@make_settings(300)
@given(st.data(), st.integers(1, 2))
def test_only_dominated_labels_are_dropped(data, resources):
    """Of every group stays, for each label, one that is no worse and no dearer; ties included."""
    count = data.draw(st.integers(1, 30))
    numbers = st.sampled_from([0.0, 1e-15, 0.5, 0.5 + 1e-15, 1.0])
    group = np.sort(
        np.array(data.draw(st.lists(st.integers(0, 4), min_size=count, max_size=count)))
    )
    value = np.array(data.draw(st.lists(numbers, min_size=count, max_size=count)))
    cost = np.array(
        [data.draw(st.lists(numbers, min_size=count, max_size=count)) for _ in range(resources)]
    )
    kept = select_undominated(group, value, cost)
    assert len(set(kept.tolist())) == len(kept)
    for i in range(count):
        same = kept[group[kept] == group[i]]
        assert ((value[same] >= value[i]) & (cost[:, same] <= cost[:, [i]]).all(axis=0)).any()
