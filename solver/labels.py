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
class _PartialLabels:
    """Labels of a bucket while its children are being joined.

    ``config`` is the index of the bucket's own entry. ``parent`` and ``partner`` tell which label
    before the last join, and which of the child's, each was made of.
    """

    config: np.ndarray
    value: np.ndarray
    cost: np.ndarray
    bound: np.ndarray
    parent: np.ndarray
    partner: np.ndarray

    def take(self, index: np.ndarray) -> _PartialLabels:
        """Return the labels at these indices."""
        return _PartialLabels(*(a[..., index] for a in vars(self).values()))

    def drop_dominated(self) -> _PartialLabels:
        """Return what :func:`_select_undominated` leaves within each entry of the bucket."""
        return self.take(_select_undominated(self.config, self.value, self.cost))


@dataclass(frozen=True, eq=False)
class _Window:
    """What one enumeration looks for: choices whose bound lies above ``floor``.

    In the units of the buckets' arrays, which hold neither constants nor the budgets' worth;
    ``whole`` is the relaxation's maximum, ``width`` that less ``floor``, ``room`` [R] what the
    factors may cost.
    """

    multipliers: np.ndarray
    room: np.ndarray
    whole: float
    floor: float
    width: float


def enumerate_window(
    tree: BucketTree, multipliers: np.ndarray, threshold: float, search: Search, limit: int
) -> list[int] | None:
    """Find the best feasible choice of a scaled value above ``threshold``; None if there is none.

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
    floor = threshold - model.constant_value - float(multipliers @ room)
    whole = sum(float(b.message) for b in tree.roots)
    window = _Window(multipliers, room, whole, floor, whole - floor)
    if window.width <= 0:
        return None
    found: dict[int, Labels] = {}
    held = 0
    for bucket in tree.buckets:
        search.check()
        labels = _build_labels(bucket, window, found, limit - held)
        if labels is None:
            return None
        found[id(bucket)] = labels
        held += len(labels.value)
    return _pick_best(tree, found, window, search, limit)


def _build_labels(
    bucket: Bucket, window: _Window, found: dict[int, Labels], limit: int
) -> Labels | None:
    """Join the labels of a bucket's children with its own entries; None if none is in the window.

    Args:
        bucket: With max-marginals.
        window: What to look for.
        found: Labels of the buckets before, by ``id``.
        limit: Labels that a join may make.
    """
    multipliers, width = window.multipliers, window.width
    entries = np.flatnonzero(bucket.array > window.floor)
    if not entries.size:
        return None
    where = dict(zip(bucket.scope, np.unravel_index(entries, bucket.array.shape)))
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
    every = np.arange(entries.size)
    front = _PartialLabels(every, value, cost, bucket.array.ravel()[entries], every, every)
    steps: list[tuple[np.ndarray, np.ndarray]] = []
    for child in bucket.children:
        group = _ravel([where[v] for v in child.separator], child.message.shape, entries.size)
        front = _join(front, group, found[id(child)], window, limit)
        if len(front.value) > entries.size:
            front = front.drop_dominated()
        steps.append((front.parent, front.partner))
        if not front.value.size:
            return None
    at = [where[v][front.config] for v in bucket.separator]
    separator = _ravel(at, bucket.message.shape, len(front.value))
    best = _select_undominated(separator, front.value, front.cost)
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
    front: _PartialLabels, group: np.ndarray, labels: Labels, window: _Window, limit: int
) -> _PartialLabels:
    """Join every label of ``front`` with every affordable one of its group, [config] to group."""
    first, counts = _count_partners(front, group[front.config], labels, window)
    if int(counts.sum()) > 8 * limit:
        raise TooManyLabels
    pieces: list[_PartialLabels] = []
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
        good = bound > window.floor
        parent, partner = parent[good], partner[good]
        piece = _PartialLabels(
            front.config[parent],
            front.value[parent] + labels.value[partner],
            front.cost[:, parent] + labels.cost[:, partner],
            bound[good],
            parent,
            partner,
        )
        if end - begin < len(counts):
            piece = piece.drop_dominated()
        pieces.append(piece)
        kept += len(piece.value)
        if kept > limit:
            raise TooManyLabels
        begin = end
    if len(pieces) == 1:
        return pieces[0]
    columns = zip(*(vars(piece).values() for piece in pieces))
    return _PartialLabels(*(np.concatenate(arrays, axis=-1) for arrays in columns))


def _count_partners(
    front: _PartialLabels, group: np.ndarray, labels: Labels, window: _Window
) -> tuple[np.ndarray, np.ndarray]:
    """Return each label's first affordable partner in its group, and how many there may be."""
    # A label that can lose s before its bound falls to the floor takes partners of loss < s; the
    # small excess covers rounding in the composite key and is checked again by the join.
    afford = np.minimum(front.bound - window.floor, 2.0 * window.width)
    first = labels.starts[group]
    query = group * (4.0 * window.width) + afford
    last = np.searchsorted(labels.search, query * (1 + 1e-13) + EPSILON, side="right")
    last = np.minimum(last, labels.starts[group + 1])
    return first, np.maximum(last - first, 0)


def _select_undominated(group: np.ndarray, value: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Return indices of the labels that no other of their group beats in value and in every cost.

    Complete for at most one resource; for several only near neighbours in value are compared (what
    stays needlessly costs time, never correctness). Of equal labels one stays.
    """
    if len(value) < 2:
        return np.arange(len(value))
    if len(cost) < 2:
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


def _pick_best(
    tree: BucketTree, found: dict[int, Labels], window: _Window, search: Search, limit: int
) -> list[int] | None:
    """Join the roots of the forest, pick the best feasible label, and walk back to its choice."""
    none = np.zeros(1, dtype=np.int64)
    cost = np.zeros((len(window.room), 1))
    front = _PartialLabels(none, np.zeros(1), cost, np.array([window.whole]), none, none)
    steps = []
    for root in tree.roots:
        search.check()
        front = _join(front, none, found[id(root)], window, limit).drop_dominated()
        steps.append((front.parent, front.partner))
    feasible = np.flatnonzero((front.cost <= window.room[:, None]).all(axis=0))
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


def _ravel(index: list[np.ndarray], shape: tuple[int, ...], count: int) -> np.ndarray:
    """Return flat indices [count]; an array of no axes has one entry."""
    if not shape:
        return np.zeros(count, dtype=np.int64)
    return np.ravel_multi_index(tuple(index), shape)
