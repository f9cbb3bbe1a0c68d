"""Problems of a middle size, one to three budgets, against the linearization written in Pyomo."""

from __future__ import annotations

import numpy as np
import pytest

import solver
from solver import Status

from .pyomo_model import solve_by_pyomo


def make_blocks(seed: int) -> solver.Problem:
    """A stream with blocks that can be dropped; budgets from hopeless to ample."""
    rng = np.random.default_rng(seed)
    stream, count = int(rng.integers(3, 7)), int(rng.integers(2, 5))
    options, tables = {"stream": stream}, []
    resources = [f"r{r}" for r in range(1 + seed % 3)]
    for k in range(count):
        keep, inner, n = f"keep{k}", f"inner{k}", int(rng.integers(3, 8))
        options |= {keep: 2, inner: n}
        gain = np.cumsum(rng.integers(1, 20, n)).astype(float)
        tables.append(solver.Table(f"gain{k}", (keep, inner), np.array([[0.0], [1.0]]) * gain))
        for side, scope in enumerate([(keep, "stream", inner), (keep, inner, "stream")]):
            shape = [options[v] for v in scope[1:]]
            work = np.outer(np.arange(1, shape[0] + 1), np.arange(1, shape[1] + 1)) + 2
            costs = {
                r: np.stack([0 * work, work + rng.integers(0, 4, work.shape)]).astype(float)
                for r in resources
            }
            tables.append(solver.Table(f"layer{k}.{side}", scope, None, costs))
    gain = np.cumsum(rng.integers(1, 30, stream)).astype(float)
    base = {r: np.arange(1.0, stream + 1) for r in resources}
    tables.append(solver.Table("stream", ("stream",), gain, base))
    if seed % 4 == 1:
        holes = np.where(rng.random((stream, options["inner0"])) < 0.3, -np.inf, 0.0)
        tables.append(solver.Table("holes", ("stream", "inner0"), holes))
    dense = {r: sum(float(np.max(t.cost[r])) for t in tables if t.cost) for r in resources}
    share = rng.choice([0.002, 0.02, 0.2, 0.5, 0.9])
    budgets = {r: float(round(share * rng.uniform(0.7, 1.3) * d)) for r, d in dense.items()}
    return solver.Problem("blocks", options, tables, budgets)


@pytest.mark.parametrize("seed", range(60))
def test_auto_and_milp_find_what_pyomo_finds(seed):
    problem = make_blocks(seed)
    optimum = solve_by_pyomo(problem)
    for method in ("auto", "milp"):
        answer = solver.solve(problem, method)
        if optimum is None:
            assert answer.status is Status.INFEASIBLE
            continue
        assert answer.status is Status.OPTIMAL
        assert answer.value == pytest.approx(optimum, rel=1e-7)
        assert answer.bound >= optimum - 1e-6
