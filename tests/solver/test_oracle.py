"""Problems of a middle size, one to three budgets, against the linearization written in Pyomo."""

from __future__ import annotations

import numpy as np
import pytest

import solver
from solver import Status, binding, core

from .pyomo_model import solve_by_pyomo
from .test_labels import make_chain


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


def make_costly_chain(seed: int) -> solver.Problem:
    """A chain whose links cost of two resources, both of which bind."""
    rng, chain = np.random.default_rng(seed), make_chain(seed, 0.3, 50)
    tables = [
        solver.Table(
            t.name, t.scope, t.value,
            {**t.cost, "other": rng.integers(1, 30, t.cost["ms"].shape).astype(float)},
        ) if t.cost else t
        for t in chain.tables
    ]  # fmt: skip
    usual = sum(float(np.mean(t.cost["other"])) for t in tables if t.cost)
    other = float(int(usual * rng.uniform(0.3, 0.9)))
    return solver.Problem("two", chain.options, tables, {**chain.budgets, "other": other})


def test_a_core_never_hides_the_optimum(monkeypatch):
    """Cores of so few entries often lack the optimum: then the floor must keep the bound above."""
    sizes = []
    select = core.select_core

    def note_size(search, tree, outlook, entries):
        found = select(search, tree, outlook, entries)
        sizes.append(0 if found[0] is None else found[0].entries)
        return found

    monkeypatch.setattr(core, "ENTRIES", 40)
    monkeypatch.setattr(core, "select_core", note_size)
    for seed in range(12):
        problem = make_costly_chain(seed)
        answer, optimum = solver.solve(problem), solve_by_pyomo(problem)
        assert answer.value == pytest.approx(optimum, rel=1e-7)
        assert answer.bound >= optimum - 1e-6
    assert sum(size > 0 for size in sizes) >= 6


def test_budgets_that_do_not_bind_are_left_out(monkeypatch):
    proven = []
    leave_out = binding._leave_out

    def note_chosen(search, chosen):
        proven.append(list(chosen))
        return leave_out(search, chosen)

    monkeypatch.setattr(binding, "_leave_out", note_chosen)
    for seed in (2, 5, 8, 11, 14, 17):  # three budgets
        problem = make_blocks(seed)
        ample = {r: sum(float(np.max(t.cost[r])) for t in problem.tables if t.cost)
                 for r in problem.budgets}  # fmt: skip
        tight = {"r1": 0.4 * ample["r1"]}
        problem = solver.Problem("one binds", problem.options, problem.tables, ample | tight)
        optimum = solve_by_pyomo(problem)
        assert solver.solve(problem).value == pytest.approx(optimum, rel=1e-7)
    assert proven and all(len(chosen) < 3 for chosen in proven)
    assert [1] in proven
