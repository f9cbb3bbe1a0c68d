"""Coordinate ascent: a choice is improved variable by variable, as far as the budgets allow."""

from collections.abc import Sequence

import numpy as np

from .model import Factor, Model
from .search import Search


def polish(search: Search, model: Model) -> None:
    """Improve the incumbent within a restriction of the search's model, if it lies in it."""
    if search.choice is None or model.split_from is not None:
        return
    choice = model.project(search.choice)
    if choice is None or model.evaluate(choice)[0] == -np.inf:
        return
    touching: list[list[Factor]] = [[] for _ in model.sizes]
    for factor in model.factors:
        for v in factor.scope:
            touching[v].append(factor)
    used = model.evaluate(choice)[1]
    room = model.budgets + model.tolerances
    better = True
    while better:
        better = False
        for v, factors in enumerate(touching):
            search.check()
            value, cost = _list_options(v, factors, choice, model.sizes[v], len(room))
            after = used[:, None] + cost - cost[:, [choice[v]]]
            value[(after > room[:, None]).any(axis=0)] = -np.inf
            best = int(value.argmax())
            if value[best] > value[choice[v]] + 1e-12:
                used, choice[v], better = after[:, best], best, True
    search.offer(model, choice)


def _list_options(
    v: int, factors: Sequence[Factor], choice: Sequence[int], options: int, resources: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return value [n] and costs [R, n] of every option of a variable, all others as chosen."""
    value, cost = np.zeros(options), np.zeros((resources, options))
    for factor in factors:
        at = tuple(slice(None) if u == v else choice[u] for u in factor.scope)
        value += factor.value[at]
        for r, array in enumerate(factor.cost):
            if array is not None:
                cost[r] += array[at]
    return value, cost
