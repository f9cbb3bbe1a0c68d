"""Max-sum variable elimination over a bucket tree, vectorized and reusable.

A bucket tree (Dechter, *Bucket elimination*, Artificial Intelligence 113, 1999) is made once for a
:class:`~solver.model.Model` and evaluated at many multipliers: the order, the arrays and the views
in which messages meet their receivers stay. One forward pass gives the maximum of
``sum_t value_t - multipliers . cost_t`` and a choice that reaches it; a backward pass turns every
bucket's array into max-marginals: for each joint entry the best completion through it.

Layout: every scope is ordered by time of elimination, so that a bucket's own variable is axis 0,
and the maximum over it runs along contiguous memory.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .model import Factor, Model
from .order import order_elimination


class TreeTooLarge(Exception):
    """The buckets would hold more entries than allowed."""


class Bucket:
    """One step of the elimination.

    ``scope`` is the eliminated variable followed by its separator; ``array`` [*scope] holds the
    sum of what meets here, and after a backward pass the max-marginals; ``message`` [*separator]
    the maximum over the variable. A bucket of variable -1 (of one option) eliminates nothing: it
    only adds up what several children say about the same separator.
    """

    def __init__(self, scope: tuple[int, ...], sizes: Sequence[int]) -> None:
        self.scope = scope
        shape = tuple(1 if v < 0 else sizes[v] for v in scope)
        self.array = np.empty(shape)
        self.message = np.empty(shape[1:])
        self.factors: list[tuple[np.ndarray, list[tuple[int, np.ndarray]], np.ndarray]] = []
        self.children: list[Bucket] = []
        self.inbox: list[np.ndarray] = []
        self.parent = -1  # position in the tree; an object here would make a reference cycle
        self.parent_axes: tuple[int, ...] = ()

    @property
    def variable(self) -> int:
        """The variable that this bucket eliminates."""
        return self.scope[0]

    @property
    def separator(self) -> tuple[int, ...]:
        """The variables that this bucket shares with its parent."""
        return self.scope[1:]


class BucketTree:
    """The buckets of a model in order of elimination.

    Raises:
        TreeTooLarge: The arrays would hold more than ``limit`` entries.
    """

    def __init__(
        self, model: Model, limit: int = 50_000_000, check: Callable[[], None] = lambda: None
    ) -> None:
        self.model = model
        self.check = check
        order, separators = order_elimination(model.sizes, [f.scope for f in model.factors])
        time = {v: i for i, v in enumerate(order)}
        scopes = [(v, *sorted(s, key=time.__getitem__)) for v, s in zip(order, separators)]
        entries = sum(math.prod(model.sizes[v] for v in scope) for scope in scopes)
        if entries > limit:
            raise TreeTooLarge(
                f"variable elimination needs {entries:,} entries, {limit:,} are allowed"
            )
        self.buckets = [Bucket(scope, model.sizes) for scope in scopes]
        self.roots: list[Bucket] = []
        for factor in sorted(model.factors, key=lambda f: -f.value.size):  # full arrays first
            self._place_factor(factor, time)
        self._join_siblings(time)
        for bucket in self.buckets:
            if bucket.parent < 0:
                self.roots.append(bucket)
                continue
            parent = self.buckets[bucket.parent]
            parent.children.append(bucket)
            parent.inbox.append(_align_axes(bucket.message, bucket.separator, parent.scope))
            bucket.parent_axes = tuple(
                i for i, v in enumerate(parent.scope) if v not in bucket.separator
            )

    def _join_siblings(self, time: dict[int, int]) -> None:
        """Set the parents, with a bucket between where siblings share a separator of few axes.

        Blocks along a residual stream meet in an array over the stream's widths alone, not in one
        over the next stream's as well.
        """
        siblings: dict[tuple[int, ...], list[Bucket]] = {}
        for bucket in self.buckets:
            if bucket.separator:
                siblings.setdefault(bucket.separator, []).append(bucket)
        placed: list[Bucket] = []
        parents: list[tuple[Bucket, Bucket]] = []
        before: dict[int, list[Bucket]] = {}
        for separator, group in siblings.items():
            parent = self.buckets[time[separator[0]]]
            if len(group) > 1 and len(separator) < len(parent.scope):
                between = Bucket((-1, *separator), self.model.sizes)
                before.setdefault(id(parent), []).append(between)
                parents += [(child, between) for child in group] + [(between, parent)]
            else:
                parents += [(child, parent) for child in group]
        for bucket in self.buckets:
            placed += [*before.get(id(bucket), []), bucket]
        position = {id(bucket): i for i, bucket in enumerate(placed)}
        for child, parent in parents:
            child.parent = position[id(parent)]
        self.buckets = placed

    def _place_factor(self, factor: Factor, time: dict[int, int]) -> None:
        """Put a factor into the bucket of the first of its variables to be eliminated."""
        scope = factor.scope
        bucket = self.buckets[min(time[v] for v in scope)]
        axes = sorted(range(len(scope)), key=lambda i: time[scope[i]])
        ordered = tuple(scope[i] for i in axes)

        def align(array: np.ndarray) -> np.ndarray:
            array = np.ascontiguousarray(array.transpose(axes))
            return _align_axes(array, ordered, bucket.scope)

        costs = [(r, align(c)) for r, c in enumerate(factor.cost) if c is not None]
        aligned = align(factor.value)
        # The buffer for value - multipliers . cost; the full array needs none of its own.
        full = aligned.shape == bucket.array.shape
        buffer = bucket.array if full and not bucket.factors else np.empty(aligned.shape)
        bucket.factors.append((aligned, costs, buffer))

    def forward(self, multipliers: np.ndarray, value_weight: float = 1.0) -> float:
        """Return the maximum of ``sum_t value_weight * value_t - multipliers . cost_t``.

        The model's constants are left out. A ``value_weight`` of zero asks for the cheapest choice
        of admissible entries.
        """
        for bucket in self.buckets:
            self.check()
            out = bucket.array
            for value, costs, buffer in bucket.factors:
                _combine(value, costs, multipliers, value_weight, buffer)
            parts = [*(buffer for _, _, buffer in bucket.factors), *bucket.inbox]
            if not parts or parts[0] is not out:
                out[...] = parts[0] if parts else 0.0
            for part in parts[1:]:
                out += part
            np.max(out, axis=0, out=bucket.message)
        return float(sum(float(b.message) for b in self.roots))

    def decode(self) -> list[int]:
        """Return a choice of every variable that reaches the last forward pass's maximum."""
        choice = [0] * len(self.model.sizes)
        for bucket in reversed(self.buckets):
            index: tuple[Any, ...] = (slice(None), *(choice[v] for v in bucket.separator))
            if bucket.variable >= 0:
                choice[bucket.variable] = int(bucket.array[index].argmax())
        return choice

    def backward(self) -> None:
        """Turn every bucket's array into max-marginals of the last forward pass (no constants).

        Afterwards ``bucket.array.max()`` is the same number for every bucket of one tree; entries
        that no admissible choice passes through are -inf.
        """
        totals = [float(b.message) for b in self.roots]
        whole = sum(totals)
        for bucket in reversed(self.buckets):
            self.check()
            if bucket.parent < 0:
                # What the other trees of the forest bring, so that every entry is a whole bound.
                outside = np.array(whole - float(bucket.message))
            else:
                best = self.buckets[bucket.parent].array.max(axis=bucket.parent_axes)
                with np.errstate(invalid="ignore"):
                    outside = best - bucket.message
                if self.model.inadmissible:
                    outside[np.isneginf(bucket.message)] = -np.inf
            bucket.array += outside


def _combine(
    value: np.ndarray,
    costs: list[tuple[int, np.ndarray]],
    multipliers: np.ndarray,
    weight: float,
    out: np.ndarray,
) -> None:
    """Write weight * value - multipliers . costs into ``out``."""
    active = [(r, c) for r, c in costs if multipliers[r] != 0.0]
    if active:
        r, c = active[0]
        np.multiply(c, -multipliers[r], out=out)
        for r, c in active[1:]:
            out -= multipliers[r] * c
        if weight == 1.0:
            out += value
        elif weight == 0.0:
            out[np.isneginf(value)] = -np.inf
        else:
            out += weight * value
    elif weight == 0.0:
        out[...] = np.where(np.isneginf(value), -np.inf, 0.0)
    else:
        np.multiply(value, weight, out=out)


def _align_axes(array: np.ndarray, scope: tuple[int, ...], target: tuple[int, ...]) -> np.ndarray:
    """Return a view of ``array`` [*scope] that broadcasts to [*target], a scope around its own."""
    position = {v: i for i, v in enumerate(scope)}
    return array.reshape([array.shape[position[v]] if v in position else 1 for v in target])
