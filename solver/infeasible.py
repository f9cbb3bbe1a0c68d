"""The diagnosis where no choice keeps the budgets: the smallest reachable cost and its parts."""

import math
from collections.abc import Callable

import numpy as np

from .problem import Problem, lookup
from .search import Search
from .solution import Infeasibility, Solution
from .table import Table
from .tree import BucketTree, TreeTooLarge


def diagnose(search: Search, solve: Callable[..., Solution]) -> Infeasibility:
    """Find, for every budgeted resource, the least that an admissible choice costs of it.

    ``solve`` is :func:`solver.solve`, for the cheapest choice where elimination is too large.
    """
    model, problem = search.model, search.problem
    none = Infeasibility(None, math.nan, math.nan, None, {}, {})
    if model.constant_value == -math.inf:
        return none
    try:
        tree: BucketTree | None = BucketTree(model, search.entries_limit)
    except TreeTooLarge:
        tree = None
    smallest: dict[str, float] = {}
    choices: dict[str, dict[str, int]] = {}
    for r, resource in enumerate(search.budgets):
        if tree is None:
            cheapest = _find_cheapest(problem, resource, search.entries_limit, solve)
            if cheapest is None:
                return none
            choices[resource] = cheapest
        else:
            low = np.zeros(len(model.budgets))
            low[r] = 1.0
            if tree.forward(low, value_weight=0.0) == -math.inf:
                return none
            full = model.complete(tree.decode())
            choices[resource] = {v: int(o) for v, o in zip(problem.options, full)}
        smallest[resource] = problem.evaluate(choices[resource])[1][resource]
    if not smallest:
        return none
    excess = {r: smallest[r] / b if b > 0 else math.inf for r, b in search.budgets.items()}
    worst = max(smallest, key=lambda r: (smallest[r] > search.budgets[r], excess[r]))
    limit, r = search.budgets[worst], list(search.budgets).index(worst)
    if smallest[worst] <= limit + model.tolerances[r] * model.units.cost_unit[r]:
        return Infeasibility(None, math.nan, math.nan, None, {}, smallest)
    parts = _itemize_cost(problem, choices[worst], worst)
    return Infeasibility(worst, smallest[worst], limit, choices[worst], parts, smallest)


def _find_cheapest(
    problem: Problem, resource: str, entries_limit: int, solve: Callable[..., Solution]
) -> dict[str, int] | None:
    """Find the cheapest choice by a problem of its own, which has no budgets."""
    tables = []
    for t in problem.tables:
        shape = problem.shape(t)
        cost = np.broadcast_to(t.cost.get(resource, np.zeros(())), shape)
        bad = False if t.value is None else np.isneginf(np.broadcast_to(t.value, shape))
        tables.append(Table(t.name, t.scope, np.where(bad, -np.inf, -cost)))
    cheap = Problem(problem.name, problem.options, tables, {})
    return solve(cheap, memory_limit_mb=entries_limit * 8e-6, time_limit_s=30.0).choice


def _itemize_cost(problem: Problem, choice: dict[str, int], resource: str) -> dict[str, float]:
    """Return what each table costs, largest first; tables that cost nothing are left out."""
    parts = {
        t.name: lookup(t.cost[resource], tuple(choice[v] for v in t.scope))
        for t in problem.tables
        if resource in t.cost
    }
    return dict(sorted(((n, c) for n, c in parts.items() if c), key=lambda item: -item[1]))
