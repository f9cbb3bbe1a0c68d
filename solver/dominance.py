"""Dominance between labels: one that costs no more and brings no less makes another superfluous."""

import numpy as np

#: Neighbours in the order of value that are compared where several resources are limited.
SHIFTS = (1, 2, 3, 4, 6, 8, 12, 16)


def select_undominated(group: np.ndarray, value: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Return indices of the labels that no other of their group beats in value and in every cost.

    Complete for at most one resource; for several, labels are compared by cells of a grid of costs
    and with near neighbours in value (what stays needlessly costs time, never correctness). Of
    equal labels one stays.

    Args:
        group: The group of every label [n].
        value: Their values [n].
        cost: Their costs [R, n].
    """
    if len(value) < 2:
        return np.arange(len(value))
    if len(cost) < 2:
        return _select_by_cost(group, value, cost)
    left = _select_by_cells(group, value, cost)
    return left[_select_by_neighbours(group[left], value[left], cost[:, left])]


def _select_by_cost(group: np.ndarray, value: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Select for one resource or none: by running maxima in the order of costs."""
    order = np.lexsort((-value, *cost, group))
    ordered = group[order]
    # Every group's ranks lie above those of the one before it: one running maximum serves all.
    # Ranks, not values: a shift of floats would swallow small leads, and all of them where
    # every value is the same.
    change = np.concatenate(([False], ordered[1:] != ordered[:-1]))
    rank = np.unique(value, return_inverse=True)[1].ravel()[order]
    level = rank + np.cumsum(change) * len(order)
    keep = np.ones(len(order), dtype=bool)
    keep[1:] = level[1:] > np.maximum.accumulate(level)[:-1]
    return order[keep]


def _select_by_cells(group: np.ndarray, value: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Drop labels that one in a cell of strictly smaller costs beats in value."""
    groups, place = np.unique(group, return_inverse=True)
    side = int((4.0 * len(value) / len(groups)) ** (1.0 / len(cost)))
    if side < 3:
        return np.arange(len(value))
    cells: list[np.ndarray] = [place.ravel()]
    for row in cost:
        low, high = float(row.min()), float(row.max())
        scale = (side - 1) / (high - low) if high > low else 0.0
        cells.append(((row - low) * scale).astype(np.int64) + 1)
    best = np.full((len(groups), *[side + 1] * len(cost)), -np.inf)
    np.maximum.at(best, tuple(cells), value)
    for axis in range(1, best.ndim):
        np.maximum.accumulate(best, axis=axis, out=best)
    below = tuple([cells[0], *(c - 1 for c in cells[1:])])
    return np.flatnonzero(best[below] < value)


def _select_by_neighbours(group: np.ndarray, value: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Drop labels that a near neighbour in the order of value beats."""
    order = np.lexsort((cost.sum(axis=0), -value, group))
    ordered, costs = group[order], cost[:, order]
    keep = np.ones(len(order), dtype=bool)
    for shift in SHIFTS:
        if shift >= len(order):
            break
        beaten = (ordered[shift:] == ordered[:-shift]) & (
            costs[:, shift:] >= costs[:, :-shift]
        ).all(axis=0)
        keep[shift:] &= ~beaten
    return order[keep]
