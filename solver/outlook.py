"""What can still come of a partial choice: bounds of its completions at several multipliers.

One pair of passes over the bucket tree gives, for every entry of a bucket, the bound of the best
completion through it at some multipliers. The best multipliers of the whole problem are not those
of a part of it (with other widths of a residual stream, time has another price), so several are
kept, and the smallest of their bounds counts. All bounds are absolute: constants and the worth of
the budgets are in them, so that they compare with each other and with an incumbent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .search import EPSILON, Search
from .tree import BucketTree

#: Multiples of the best multipliers that are looked at beside them.
FACTORS = (1.0, 0.7, 1.4, 0.5, 2.0, 0.85, 1.2, 0.25, 4.0)


@dataclass(frozen=True, eq=False)
class View:
    """A bucket's part: its open ``entries`` (flat), their bounds [K, n], its message [K, ...]."""

    entries: np.ndarray
    bound: np.ndarray
    message: np.ndarray


@dataclass(frozen=True, eq=False)
class Outlook:
    """Bounds at ``multipliers`` [K, R]; ``whole`` [K] bounds everything that the tree holds."""

    multipliers: np.ndarray
    whole: np.ndarray
    views: dict[int, View]


def spread_multipliers(best: np.ndarray, count: int) -> np.ndarray:
    """Return ``count`` multipliers [K, R] around the best ones [R], which come first."""
    if not best.any():
        return best[None, :]
    rows = [best]
    active = np.flatnonzero(best)
    if len(active) > 1:
        for r in active:
            for factor in (0.5, 1.6):
                row = best.copy()
                row[r] *= factor
                rows.append(row)
    rows[1:1] = [best * f for f in FACTORS[1:5]]
    rows += [best * f for f in FACTORS[5:]]
    return np.array(rows[:count])


def look_out(tree: BucketTree, multipliers: np.ndarray, search: Search) -> Outlook:
    """Bound the completions of every entry at each of ``multipliers`` [K, R]."""
    model = tree.model
    room = model.slack + model.tolerances
    floor = search.value + EPSILON
    whole, arrays, messages = [], [], []
    for row in multipliers:
        worth = model.constant_value + float(row @ room)
        whole.append(worth + tree.forward(row))
        messages.append([b.message.copy() for b in tree.buckets])
        tree.backward()
        arrays.append([b.array + worth for b in tree.buckets])
    views = {}
    for i, bucket in enumerate(tree.buckets):
        tree.check()
        smallest = arrays[0][i]
        for part in arrays[1:]:
            smallest = np.minimum(smallest, part[i])
        entries = np.flatnonzero(smallest > floor)
        bound = np.array([part[i].ravel()[entries] for part in arrays])
        message = np.array([part[i] for part in messages])
        views[id(bucket)] = View(entries, bound, message)
    return Outlook(multipliers, np.array(whole), views)
