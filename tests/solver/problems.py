"""Problems for the tests: random small ones, the published ones, structures of real networks."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

import solver

INSTANCES = Path(__file__).parents[3] / "shared" / "instances"


def load_optima() -> dict[str, dict]:
    """Name to proven optimum of the published instances; empty where they are not there."""
    path = INSTANCES / "optima.json"
    return json.loads(path.read_text()) if path.exists() else {}


def load_published(name: str) -> solver.Problem:
    return solver.Problem.from_json(INSTANCES / f"{name}.json")


def roofline_problem(net: str, step: int, budget: float) -> solver.Problem:
    path = INSTANCES / "roofline.py"
    if not path.exists():
        pytest.skip(f"{path} is not there: the generator of fine-grained instances")
    spec = importlib.util.spec_from_file_location("roofline", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = module.make(net, step, budget)
    tables = [
        solver.Table(t["name"], tuple(t["scope"]), t["value"], t["cost"]) for t in made["tables"]
    ]
    return solver.Problem(made["name"], made["options"], tables, made["budgets"])


@st.composite
def small_problems(
    draw: st.DrawFn, resources: int = 2, inadmissible: bool = True
) -> solver.Problem:
    """A few variables, tables of any arity, ties, gates, several budgets, negative costs."""
    seed = draw(st.integers(0, 2**32 - 1))
    whole = draw(st.booleans())
    gates = draw(st.booleans())
    return random_problem(np.random.default_rng(seed), resources, inadmissible, whole, gates)


def random_problem(
    rng: np.random.Generator,
    resources: int = 2,
    inadmissible: bool = True,
    whole: bool = True,
    gates: bool = True,
) -> solver.Problem:
    """``whole``: small integers, so that ties and budgets met exactly are common."""
    count = int(rng.integers(1, 6))
    names = [f"v{i}" for i in range(count)]
    options = {v: int(rng.integers(1, 5)) for v in names}
    if gates:
        options["gate"] = 2
    tables = []
    for t in range(int(rng.integers(1, 7))):
        scope = tuple(rng.choice(names, int(rng.integers(0, min(count, 3) + 1)), replace=False))
        gated = gates and rng.random() < 0.5
        if gated:
            scope = ("gate", *scope)
        shape = tuple(options[v] for v in scope)

        value = None if rng.random() < 0.2 else _array(rng, shape, whole, gated)
        if inadmissible and value is not None and rng.random() < 0.3:
            value = np.where(rng.random(value.shape) < 0.3, -np.inf, value)
        cost = {
            f"r{r}": _array(rng, shape, whole, gated)
            if rng.random() < 0.2
            else np.abs(_array(rng, shape, whole, gated))
            for r in range(resources)
            if rng.random() < 0.7
        }
        tables.append(solver.Table(f"t{t}", scope, value, cost))
    costed = sorted({r for t in tables for r in t.cost})
    budgets = {r: float(rng.integers(0, 8) if whole else 3 * abs(rng.normal())) for r in costed}
    return solver.Problem("random", options, tables, budgets)


def _array(
    rng: np.random.Generator, shape: tuple[int, ...], whole: bool, gated: bool
) -> np.ndarray:
    array = rng.integers(-3, 6, shape).astype(float) if whole else rng.normal(size=shape)
    if rng.random() < 0.2 and array.ndim:
        array = array[:1]  # broadcasts
    if gated and array.shape[0] == 2:
        array = array * np.array([0.0, 1.0]).reshape((2,) + (1,) * (array.ndim - 1))
    return array


def concatenation_problem(layers: int, widest: int, seed: int = 0) -> solver.Problem:
    """A dense block: running sums of widths, of which only consistent triples are admissible."""
    rng = np.random.default_rng(seed)
    options, tables = {"sum0": 4}, []
    for k in range(1, layers + 1):
        options |= {f"sum{k}": widest, f"grow{k}": 4, f"inner{k}": 5}
        before = options[f"sum{k - 1}"]
        consistent = np.full((before, 4, widest), -np.inf)
        for a in range(before):
            for g in range(4):
                consistent[a, g, min(a + g + 1, widest - 1)] = 0.0
        scope = (f"sum{k - 1}", f"grow{k}", f"sum{k}")
        tables.append(solver.Table(f"sum {k}", scope, consistent))
        gain = np.cumsum(np.sort(rng.integers(1, 30, 5))[::-1]).astype(float)
        reading = np.outer(np.arange(1, before + 1), np.arange(1, 6)) + 3.0
        tables.append(solver.Table(f"in {k}", (f"sum{k - 1}", f"inner{k}"), gain, {"ms": reading}))
        gain = np.cumsum(np.sort(rng.integers(1, 30, 4))[::-1]).astype(float)
        writing = 2.0 * np.outer(np.arange(1, 6), np.arange(1, 5)) + 3.0
        tables.append(solver.Table(f"out {k}", (f"inner{k}", f"grow{k}"), gain, {"ms": writing}))
    dense = sum(float(t.cost["ms"].max()) for t in tables if t.cost)
    return solver.Problem("dense block", options, tables, {"ms": round(0.4 * dense)})


def grid_problem(side: int, options: int, seed: int = 0) -> solver.Problem:
    """Pairwise tables on a grid: treewidth ``side``, which exact elimination soon cannot afford."""
    rng = np.random.default_rng(seed)
    names = {f"x{i}.{j}": options for i in range(side) for j in range(side)}
    tables = []
    for i in range(side):
        for j in range(side):
            for a, b in ((i + 1, j), (i, j + 1)):
                if a < side and b < side:
                    shape = (options, options)
                    tables.append(
                        solver.Table(
                            f"{i}.{j}-{a}.{b}",
                            (f"x{i}.{j}", f"x{a}.{b}"),
                            rng.integers(0, 50, shape).astype(float),
                            {"ms": rng.integers(1, 20, shape).astype(float)},
                        )
                    )
    return solver.Problem("grid", names, tables, {"ms": 9.0 * len(tables)})
