"""Exact dynamic programming over the bucket tree with labels, inside a window below the bound.

What the relaxation leaves open is which of the near-optimal choices keep the budgets. Those are
enumerated: a label is a partial choice of a subtree with its value and costs; subtrees are joined
bucket by bucket. A label is dropped when its loss against the relaxation exceeds the window (the
best completion of any label is known exactly from the tree's max-marginals), or when another
label with the same separator costs no more and brings no less. With the window (threshold, bound]
every choice worth more than ``threshold`` is either found or dominated by one that is, so the
best feasible label is optimal if there is one, and ``threshold`` is a proven bound if not. This is
the core idea of Pisinger's exact multiple-choice knapsack (EJOR 83, 1995) on a tree of tables.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .search import EPSILON, Search
from .tree import Bucket, BucketTree

#: Labels expanded at once; bounds the temporary arrays.
CHUNK = 2_000_000


class TooManyLabels(Exception):
    """The window holds more labels than allowed."""


@dataclass(eq=False)
class Labels:
    """Labels of one bucket's subtree, grouped by separator entry (a flat index).

    ``starts`` [separator entries + 1] delimits the groups; within one, ``loss`` ascends. ``search``
    is group * width + loss, so that one binary search finds how many of a group are affordable.
    ``entry`` is the bucket's own flat entry, ``steps`` and ``origin`` lead back to the children.
    """

    starts: np.ndarray
    value: np.ndarray
    cost: np.ndarray
    loss: np.ndarray
    search: np.ndarray
    entry: np.ndarray
    steps: list[tuple[np.ndarray, np.ndarray]]
    origin: np.ndarray


@dataclass(eq=False)
class _Front:
    """Labels of a bucket while its children are being joined."""

    config: np.ndarray
    value: np.ndarray
    cost: np.ndarray
    bound: np.ndarray

    def take(self, index: np.ndarray) -> _Front:
        return _Front(self.config[index], self.value[index], self.cost[:, index], self.bound[index])


def enumerate_window(
    tree: BucketTree,
    multipliers: np.ndarray,
    threshold: float,
    search: Search,
    limit: int,
) -> list[int] | None:
    """The best feasible choice of a scaled value above ``threshold``, or None if there is none.

    Args:
        tree: After a forward pass at ``multipliers`` and a backward pass.
        multipliers: The multipliers [R] of those passes.
        threshold: Constants included, in the model's scaled units.
        search: Its deadline holds.
        limit: Labels held at once.

    Raises:
        TooManyLabels: The window is too wide for ``limit``.
    """
    model = tree.model
    room = model.slack + model.tolerances
    # In the units of the buckets' arrays, which hold neither constants nor the budgets' worth.
    floor = threshold - model.constant_value - float(multipliers @ room)
    whole = sum(float(b.message) for b in tree.roots)
    width = whole - floor
    if width <= 0:
        return None
    found: dict[int, Labels] = {}
    held = 0
    for bucket in tree.buckets:
        search.check()
        labels = _bucket_labels(tree, bucket, multipliers, floor, width, found, limit - held)
        if labels is None:
            return None
        found[id(bucket)] = labels
        held += len(labels.value)
    return _finish(tree, found, whole, floor, width, room, limit, search)


def _bucket_labels(
    tree: BucketTree,
    bucket: Bucket,
    multipliers: np.ndarray,
    floor: float,
    width: float,
    found: dict[int, Labels],
    limit: int,
) -> Labels | None:
    entries = np.flatnonzero(bucket.array > floor)
    if not entries.size:
        return None
    shape = bucket.array.shape
    where = dict(zip(bucket.scope, np.unravel_index(entries, shape)))
    value = np.zeros(entries.size)
    cost = np.zeros((len(multipliers), entries.size))
    for array, costs, _ in bucket.factors:
        index = tuple(
            np.zeros_like(entries) if n == 1 else where[v]
            for n, v in zip(array.shape, bucket.scope)
        )
        value += array[index]
        for r, c in costs:
            cost[r] += c[index]
    front = _Front(np.arange(entries.size), value, cost, bucket.array.ravel()[entries])
    steps: list[tuple[np.ndarray, np.ndarray]] = []
    for child in bucket.children:
        labels = found[id(child)]
        group = _flat([where[v] for v in child.separator], child.message.shape, entries.size)
        front, step = _join(front, group, labels, floor, width, limit)
        if len(front.value) > entries.size:
            best = _undominated(front.config, front.value, front.cost)
            front = front.take(best)
            step = (step[0][best], step[1][best])
        steps.append(step)
        if not front.value.size:
            return None
    at = [where[v][front.config] for v in bucket.separator]
    separator = _flat(at, bucket.message.shape, len(front.value))
    best = _undominated(separator, front.value, front.cost)
    separator, chosen = separator[best], front.take(best)
    worth = chosen.value - multipliers @ chosen.cost
    loss = np.maximum(bucket.message.ravel()[separator] - worth, 0.0)
    order = np.lexsort((loss, separator))
    counts = np.bincount(separator, minlength=bucket.message.size)
    loss = loss[order]
    return Labels(
        starts=np.concatenate(([0], np.cumsum(counts))),
        value=chosen.value[order],
        cost=chosen.cost[:, order],
        loss=loss,
        search=separator[order] * (4.0 * width) + loss,
        entry=entries[chosen.config[order]],
        steps=steps,
        origin=best[order],
    )


def _join(
    front: _Front,
    group: np.ndarray,
    labels: Labels,
    floor: float,
    width: float,
    limit: int,
) -> tuple[_Front, tuple[np.ndarray, np.ndarray]]:
    """Every label of ``front`` with every affordable one of its group, [config] to group."""
    group = group[front.config]
    # A label that can lose s before its bound falls to the floor takes partners of loss < s; the
    # small excess covers rounding in the composite key and is checked again below.
    afford = np.minimum(front.bound - floor, 2.0 * width)
    first = labels.starts[group]
    query = group * (4.0 * width) + afford
    last = np.searchsorted(labels.search, query * (1 + 1e-13) + EPSILON, side="right")
    last = np.minimum(last, labels.starts[group + 1])
    counts = np.maximum(last - first, 0)
    total = int(counts.sum())
    if total > 8 * limit:
        raise TooManyLabels
    pieces: list[tuple[_Front, np.ndarray, np.ndarray]] = []
    kept = 0
    ends = np.cumsum(counts)
    begin = 0
    while begin < len(counts):
        base = ends[begin - 1] if begin else 0
        end = max(int(np.searchsorted(ends, base + CHUNK, side="right")), begin + 1)
        some = counts[begin:end]
        parent = np.repeat(np.arange(begin, end), some)
        within = np.arange(len(parent)) - np.repeat(ends[begin:end] - some - base, some)
        partner = first[parent] + within
        bound = front.bound[parent] - labels.loss[partner]
        good = bound > floor
        parent, partner, bound = parent[good], partner[good], bound[good]
        piece = _Front(
            front.config[parent],
            front.value[parent] + labels.value[partner],
            front.cost[:, parent] + labels.cost[:, partner],
            bound,
        )
        if end - begin < len(counts):
            best = _undominated(piece.config, piece.value, piece.cost)
            piece, parent, partner = piece.take(best), parent[best], partner[best]
        pieces.append((piece, parent, partner))
        kept += len(parent)
        if kept > limit:
            raise TooManyLabels
        begin = end
    if len(pieces) == 1:
        piece, parent, partner = pieces[0]
        return piece, (parent, partner)
    joined = _Front(
        np.concatenate([p.config for p, _, _ in pieces]),
        np.concatenate([p.value for p, _, _ in pieces]),
        np.concatenate([p.cost for p, _, _ in pieces], axis=1),
        np.concatenate([p.bound for p, _, _ in pieces]),
    )
    return joined, (
        np.concatenate([a for _, a, _ in pieces]),
        np.concatenate([b for _, _, b in pieces]),
    )


def _undominated(group: np.ndarray, value: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Indices of labels that no other of their group beats in value and every cost at once.

    Complete for one resource; for several only near neighbours in value are compared (what stays
    needlessly costs time, never correctness). Of equal labels one stays.
    """
    if len(value) < 2:
        return np.arange(len(value))
    if len(cost) == 0:
        order = np.lexsort((-value, group))
        first = np.ones(len(order), dtype=bool)
        first[1:] = group[order][1:] != group[order][:-1]
        return order[first]
    if len(cost) == 1:
        order = np.lexsort((-value, cost[0], group))
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
    order = np.lexsort((cost.sum(axis=0), -value, group))
    ordered, level, costs = group[order], value[order], cost[:, order]
    keep = np.ones(len(order), dtype=bool)
    for shift in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32):
        if shift >= len(order):
            break
        beaten = (ordered[shift:] == ordered[:-shift]) & (
            costs[:, shift:] >= costs[:, :-shift]
        ).all(axis=0)
        keep[shift:] &= ~beaten
    return order[keep]


def _finish(
    tree: BucketTree,
    found: dict[int, Labels],
    whole: float,
    floor: float,
    width: float,
    room: np.ndarray,
    limit: int,
    search: Search,
) -> list[int] | None:
    """Join the roots of the forest, pick the best feasible label, and walk back."""
    count = len(room)
    front = _Front(
        np.zeros(1, dtype=np.int64), np.zeros(1), np.zeros((count, 1)), np.array([whole])
    )
    group = np.zeros(1, dtype=np.int64)
    steps = []
    for root in tree.roots:
        search.check()
        front, step = _join(front, group, found[id(root)], floor, width, limit)
        best = _undominated(front.config, front.value, front.cost)
        front = front.take(best)
        steps.append((step[0][best], step[1][best]))
    feasible = np.flatnonzero((front.cost <= room[:, None]).all(axis=0))
    if not feasible.size:
        return None
    label = int(feasible[np.argmax(front.value[feasible])])
    choice = [0] * len(tree.model.sizes)
    todo: list[tuple[Bucket, int]] = []
    for root, (parents, partners) in zip(reversed(tree.roots), reversed(steps)):
        todo.append((root, int(partners[label])))
        label = int(parents[label])
    while todo:
        bucket, label = todo.pop()
        labels = found[id(bucket)]
        entry = np.unravel_index(int(labels.entry[label]), bucket.array.shape)
        choice[bucket.variable] = int(entry[0])
        at = int(labels.origin[label])
        for child, (parents, partners) in zip(reversed(bucket.children), reversed(labels.steps)):
            todo.append((child, int(partners[at])))
            at = int(parents[at])
    return choice


def _flat(index: list[np.ndarray], shape: tuple[int, ...], count: int) -> np.ndarray:
    """Flat indices [count]; an array of no axes has one entry."""
    if not shape:
        return np.zeros(count, dtype=np.int64)
    return np.ravel_multi_index(tuple(index), shape)
