"""Budgets that bind, found one by one: a budget that is never exceeded needs no price.

A problem with some of its budgets left out is a relaxation: its bound holds, and where its optimum
keeps the others, it is the optimum. Peak memory limits have a budget for every operator that may be
the peak, of which one or two bind, and every budget left out makes all that follows cheaper.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from .methods.lagrangian import build_bucket_tree
from .polish import polish
from .relaxation import minimize
from .search import Search


def solve_binding(
    search: Search, prove: Callable[[Search], None], chosen: Sequence[int] = ()
) -> None:
    """Let ``prove`` solve the search under ever more of its budgets, until none is exceeded.

    ``chosen`` are budgets that are known to bind.
    """
    chosen = list(chosen)
    settled = bool(chosen)
    while True:
        part = _leave_out(search, chosen)
        try:
            if settled:
                prove(part)
            else:
                _relax(part)
        finally:
            search.tighten(part.bound)
            if part.multipliers is not None:
                search.multipliers = np.zeros(len(search.model.budgets))
                search.multipliers[chosen] = part.multipliers
        if part.bound == -np.inf or search.done:
            return
        exceeded = [r for r in _rank_exceeded(search, part.choice) if r not in chosen]
        if exceeded:
            chosen = sorted([*chosen, exceeded[0]])
        elif settled:
            return
        settled = not exceeded or len(chosen) == len(search.model.budgets)


def _leave_out(search: Search, chosen: list[int]) -> Search:
    """Return the search under the chosen budgets alone; what it finds is offered to the whole."""
    model = search.model.select_budgets(chosen)
    return replace(search, model=model, multipliers=None, whole=search, restricts=False)


def _relax(search: Search) -> None:
    """Find prices and a choice of a search whose budgets may be too few."""
    dual = minimize(build_bucket_tree(search.model, search), search)
    search.multipliers = dual.multipliers
    search.tighten(dual.bound)
    polish(search, search.model)


def _rank_exceeded(search: Search, choice: np.ndarray | None) -> list[int]:
    """Return the budgets that a choice exceeds, by how far; all where there is no choice."""
    model = search.model
    if choice is None:
        return list(range(len(model.budgets)))
    options = model.project(choice)
    if options is None:
        return list(range(len(model.budgets)))
    over = model.evaluate(options)[1] - model.budgets - model.tolerances
    share = over / np.maximum(np.abs(model.budgets), 1e-300)
    return [int(r) for r in np.argsort(-share, kind="stable") if over[r] > 0]
