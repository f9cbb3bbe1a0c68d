"""HALP's baseline: a knapsack over channels whose costs are taken at frozen input widths.

Shen et al., *Structural pruning via latency-saliency knapsack* (NeurIPS 2022): the latency of a
layer's j-th output channel is the table's step from j-1 to j at the input width of the dense
network, so the problem separates into one knapsack. What pruning saves in the layers that read the
channels is not seen, nor is the removal of whole blocks. The choice is judged by the real tables.
"""

from collections.abc import Callable, Mapping

import numpy as np

from ..problem import Problem
from ..search import Search
from ..solution import Solution
from ..table import Table


def solve_knapsack(search: Search, solve: Callable[..., Solution]) -> None:
    """Choose by the separated costs; the search holds the choice with its real value and cost.

    Gates stay open, and a variable that owns no cost stays dense. The separated problem is solved
    exactly, by ``solve``: :func:`solver.solve`.
    """
    problem = search.problem
    separated = separate(problem, search.budgets)
    answer = solve(
        separated,
        gap=search.gap,
        time_limit_s=max(search.remaining, 1e-3),
        progress=search.progress,
        memory_limit_mb=search.entries_limit * 8e-6,
    )
    if answer.choice is None:
        search.notes.append("knapsack: no choice keeps the budgets at frozen input widths")
        return
    full = {v: n - 1 for v, n in problem.options.items()} | answer.choice
    seen = ", ".join(f"{r} {answer.cost[r]:.6g}" for r in separated.budgets)
    search.notes.append(f"knapsack: the separated problem believed in a cost of {seen}")
    if not search.offer_complete(np.array(list(full.values()), dtype=np.int64)):
        _, cost = problem.evaluate(full)
        real = ", ".join(f"{r} {cost[r]:.6g}" for r in search.budgets)
        search.notes.append(
            f"knapsack: its choice is inadmissible or breaks a budget in the real tables ({real})"
        )


def separate(problem: Problem, budgets: Mapping[str, float]) -> Problem:
    """Return a problem whose tables have one variable each.

    A table's value is split into what each of its variables changes with the others at their last
    option, the dense network's; exact where importance is a sum over channels. Its cost belongs to
    its output alone: the variable on which its value depends most, or the first of its scope.
    Gates (two options, the first of which makes every table of theirs zero) are left out.
    """
    gates = {v for v in problem.options if _is_gate(problem, v)}
    tables = []
    owners = set()
    for table in problem.tables:
        shape = problem.shape(table)
        lines = {v: _take_line(table, table.value, shape, v) for v in table.scope if v not in gates}
        if any(np.isneginf(line).any() for line in lines.values()):
            continue  # consistency of sums, which separated variables cannot see
        ranges = {v: float(np.ptp(line)) for v, line in lines.items()}
        for v, line in lines.items():
            if ranges[v]:
                tables.append(Table(f"{table.name}: value by {v}", (v,), line - line[-1]))
        if ranges and table.cost:
            owner = max(ranges, key=lambda v: ranges[v])
            costs = {r: _take_line(table, c, shape, owner) for r, c in table.cost.items()}
            tables.append(Table(f"{table.name}: cost by {owner}", (owner,), None, costs))
            owners.add(owner)
        elif table.cost:
            last = (-1,) * len(shape)
            cost = {r: np.broadcast_to(c, shape)[last] for r, c in table.cost.items()}
            tables.append(Table(f"{table.name}: cost", (), None, cost))
    options = {v: n for v, n in problem.options.items() if v in owners}
    tables = [t for t in tables if set(t.scope) <= owners]
    costed = {r for t in tables for r in t.cost}
    limits = {r: b for r, b in budgets.items() if r in costed}
    return Problem(f"{problem.name}, separated", options, tables, limits)


def _take_line(
    table: Table, array: np.ndarray | None, shape: tuple[int, ...], variable: str
) -> np.ndarray:
    """Return the array along one variable, all others at their last option."""
    if array is None:
        return np.zeros(shape[table.scope.index(variable)])
    index = tuple(slice(None) if v == variable else -1 for v in table.scope)
    return np.broadcast_to(array, shape)[index]


def _is_gate(problem: Problem, variable: str) -> bool:
    """Return whether a variable has two options, the first of which makes its tables zero."""
    if problem.options[variable] != 2:
        return False
    inside = [t for t in problem.tables if variable in t.scope]
    for table in inside:
        axis = table.scope.index(variable)
        shape = problem.shape(table)
        arrays = [a for a in (table.value, *table.cost.values()) if a is not None]
        if any(np.take(np.broadcast_to(a, shape), 0, axis).any() for a in arrays):
            return False
    return any(len(t.scope) > 1 for t in inside)
