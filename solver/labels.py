"""Exact dynamic programming over the bucket tree with labels, the most promising ones first.

What the relaxation leaves open is which of the near-optimal choices keep the budgets. Those are
enumerated: a label is a partial choice of a subtree with its value and costs; subtrees are joined
bucket by bucket. A label goes when its completions cannot beat the incumbent at one of several
multipliers (:mod:`~solver.outlook`), or when another with the same separator costs no more and
brings no less. Where more are left than may be held, those with the smallest bounds are dropped,
and the largest bound dropped is a bound on the problem; so every pass proves something, and a pass
that drops nothing proves the optimum. This is the core idea of Pisinger's exact multiple-choice
knapsack (EJOR 83, 1995) on a tree of tables, with a beam.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .dominance import select_undominated
from .label_arrays import Labels, PartialLabels, count_partners, quantize, ravel_groups
from .outlook import Outlook
from .search import Search
from .tree import Bucket, BucketTree
from .upper import Guide, LowerLabels, Opened

#: Pairs made at once; bounds the temporary arrays.
CHUNK = 1_000_000
#: Pairs that a join may make, as a multiple of the labels that may be held.
PAIRS = 64
#: Pairs of a bucket that may be made before a guide is.
SMALL = 500_000


@dataclass(eq=False)
class Beam:
    """One pass: at most ``width`` labels a join, of bounds above ``floor``.

    ``dropped`` is the largest bound among the labels dropped for want of room. A ``pessimistic``
    pass looks for choices only and proves nothing: labels are kept by completions that are sure to
    fit, of which the guide takes ``seconds`` to find out, roughly.
    """

    tree: BucketTree
    outlook: Outlook
    search: Search
    floor: float
    width: int
    seconds: float = 1.0
    pessimistic: bool = False
    dropped: float = -math.inf
    found: dict[int, Labels] = field(default_factory=dict)
    fronts: dict[int, Any] = field(default_factory=dict)
    guide: Guide | None = None
    held: int = 0

    def run(self) -> list[int] | None:
        """Return the best feasible choice seen whose value lies above the floor, if any.

        No other choice of the tree's model is worth more than the largest of that choice's
        value, ``floor`` and ``dropped``.
        """
        top = Bucket((-1,), ())
        top.children = self.tree.roots
        buckets = [*self.tree.buckets, top]
        self.fronts = {id(b): self._open_bucket(b) for b in buckets}
        if any(not front.value.size for front, _, _ in self.fronts.values()):
            return None
        upper: list[Bucket] = []
        for bucket in buckets:
            self.search.check()
            if bucket is top and not upper:
                break
            if bucket is not top and self._is_small(bucket):
                self.held = max(self.width, SMALL)
                if not self._close_bucket(bucket):
                    return None
            else:
                upper.append(bucket)
        if upper and self.outlook.multipliers[0].any():
            for bucket in upper:
                bucket.children.sort(key=lambda child: id(child) in self.found)
                self.fronts[id(bucket)] = self._open_bucket(bucket)
            self.guide = self._build_guide(upper)
            for bucket in upper:
                self._tighten_front(bucket)
        self.held = self.width
        for bucket in upper[:-1]:
            if not self._close_bucket(bucket):
                return None
        return self._pick_best(top)

    def _is_small(self, bucket: Bucket) -> bool:
        """Return whether a bucket's labels are few enough to be made without a guide."""
        front, groups, _ = self.fronts[id(bucket)]
        pairs = np.ones(len(front.value))
        for child, group in zip(bucket.children, groups):
            if id(child) not in self.found:
                return False
            pairs *= np.diff(self.found[id(child)].starts)[group]
        return float(pairs.sum()) <= SMALL

    def _close_bucket(self, bucket: Bucket) -> bool:
        """Make the labels of a bucket; return whether there are any."""
        labels = self._build_labels(bucket)
        if labels is not None:
            self.found[id(bucket)] = labels
        return labels is not None

    def _build_guide(self, upper: list[Bucket]) -> Guide:
        """Solve the upper part on a grid."""
        model, prices = self.tree.model, self.outlook.multipliers[0]
        opened, lower = {}, {}
        for bucket in upper:
            front, groups, separator = self.fronts[id(bucket)]
            opened[id(bucket)] = Opened(front.value, prices @ front.cost, separator, groups)
            for child in bucket.children:
                if id(child) in self.found:
                    labels = self.found[id(child)]
                    lower[id(child)] = LowerLabels(
                        labels.starts, labels.value, prices @ labels.cost
                    )
        room = float(prices @ (model.slack + model.tolerances))
        check = self.search.check
        return Guide(upper, opened, lower, room, self.seconds, check, self.pessimistic)

    def _tighten_front(self, bucket: Bucket) -> None:
        """Bound the entries of an upper bucket by the guide as well."""
        assert self.guide is not None
        front, groups, separator = self.fronts[id(bucket)]
        bound = self.guide.nodes[id(bucket)].entry_bound
        assert bound is not None
        front.least = np.minimum(front.least, bound + self.tree.model.constant_value)

    def _open_bucket(self, bucket: Bucket) -> tuple[PartialLabels, list[np.ndarray], np.ndarray]:
        """Return the open entries of a bucket as labels, their groups in each child, and above."""
        multipliers = self.outlook.multipliers
        if id(bucket) in self.outlook.views:
            view = self.outlook.views[id(bucket)]
            good = (view.bound > self.floor).all(axis=0)
            entries, bound = view.entries[good], view.bound[:, good]
        else:
            entries, bound = np.zeros(1, dtype=np.int64), self.outlook.whole[:, None]
        where = dict(zip(bucket.scope, np.unravel_index(entries, bucket.array.shape)))
        value = np.zeros(entries.size)
        cost = np.zeros((multipliers.shape[1], entries.size))
        for array, costs, _ in bucket.factors:
            index = tuple(
                np.zeros_like(entries) if n == 1 else where[v]
                for n, v in zip(array.shape, bucket.scope)
            )
            value += quantize(array[index])
            for r, c in costs:
                cost[r] += quantize(c[index])
        every = np.arange(entries.size)
        front = PartialLabels(every, value, cost, bound, bound.min(axis=0), every, entries)
        groups = [
            ravel_groups([where[v] for v in child.separator], child.message.shape, entries.size)
            for child in bucket.children
        ]
        separator = [where[v] for v in bucket.separator]
        return front, groups, ravel_groups(separator, bucket.message.shape, entries.size)

    def _build_labels(self, bucket: Bucket) -> Labels | None:
        """Join the labels of a bucket's children with its own entries; None if none is left."""
        multipliers = self.outlook.multipliers
        front, groups, above = self.fronts[id(bucket)]
        entries = front.partner
        front = front.take(np.flatnonzero(front.least > self.floor))
        if not front.value.size:
            return None
        steps: list[tuple[np.ndarray, np.ndarray]] = []
        for i, (child, group) in enumerate(zip(bucket.children, groups)):
            front = self._join(front, group, child, (bucket, i + 1))
            steps.append((front.parent, front.partner))
            if not front.value.size:
                return None
        separator = above[front.config]
        best = select_undominated(separator, front.value, front.cost)
        best = self._drop_least(front.least, best)
        separator, chosen = separator[best], front.take(best)
        message = self.outlook.views[id(bucket)].message.reshape(len(multipliers), -1)
        worth = chosen.value - multipliers @ chosen.cost
        loss = np.maximum(message[:, separator] - worth, 0.0)
        # A group is sorted at the multipliers at which its own best bound is smallest.
        top = np.full((len(multipliers), bucket.message.size), -np.inf)
        for row, own in zip(top, chosen.bound):
            np.maximum.at(row, separator, own)
        pick = top.argmin(axis=0)
        primary = loss[pick[separator], np.arange(len(separator))]
        order = np.lexsort((primary, separator))
        span = 2.0 * float(primary.max()) + 1.0
        counts = np.bincount(separator, minlength=bucket.message.size)
        return Labels(
            starts=np.concatenate(([0], np.cumsum(counts))),
            value=chosen.value[order],
            cost=chosen.cost[:, order],
            loss=loss[:, order],
            pick=pick,
            key=separator[order] * span + primary[order],
            span=span,
            entry=entries[chosen.config[order]],
            steps=steps,
            origin=best[order],
        )

    def _join(
        self, front: PartialLabels, group: np.ndarray, child: Bucket, place: tuple[Bucket, int]
    ) -> PartialLabels:
        """Join every label of ``front`` with the affordable ones of its group [config] in a child.

        ``place`` is the bucket, and how many children it has joined then.
        """
        labels = self.found[id(child)]
        group = group[front.config]
        afford = front.bound[labels.pick[group], np.arange(len(group))]
        floor = self.floor
        counts = count_partners(labels, group, afford - floor)
        if int(counts.sum()) > PAIRS * self.held:
            floor, counts = self._raise_floor(labels, group, afford)
        pieces: list[PartialLabels] = []
        ends = np.cumsum(counts)
        begin = 0
        while begin < len(counts) or not pieces:
            self.search.check()
            base = ends[begin - 1] if begin else 0
            end = max(int(np.searchsorted(ends, base + CHUNK, side="right")), begin + 1)
            end = min(end, len(counts))
            some = counts[begin:end]
            parent = np.repeat(np.arange(begin, end), some)
            within = np.arange(len(parent)) - np.repeat(ends[begin:end] - some - base, some)
            partner = labels.starts[group[parent]] + within
            for bound, loss in zip(front.bound, labels.loss):
                good = bound[parent] - loss[partner] > floor
                parent, partner = parent[good], partner[good]
            piece = self._make_pairs(front, labels, parent, partner, place)
            pieces.append(piece.take(select_undominated(piece.config, piece.value, piece.cost)))
            begin = end
        if len(pieces) == 1:
            joined = pieces[0]
        else:
            columns = zip(*(vars(piece).values() for piece in pieces))
            joined = PartialLabels(*(np.concatenate(arrays, axis=-1) for arrays in columns))
            joined = joined.take(select_undominated(joined.config, joined.value, joined.cost))
        return joined.take(self._drop_least(joined.least, np.arange(len(joined.value))))

    def _make_pairs(
        self,
        front: PartialLabels,
        labels: Labels,
        parent: np.ndarray,
        partner: np.ndarray,
        place: tuple[Bucket, int],
    ) -> PartialLabels:
        """Return the labels that pairs make, those without a future left out."""
        config = front.config[parent]
        value = front.value[parent] + labels.value[partner]
        cost = front.cost[:, parent] + labels.cost[:, partner]
        guided = np.full(len(parent), math.inf)
        bucket, joined = place
        if self.guide is not None and id(bucket) in self.guide.nodes:
            scalar = self.outlook.multipliers[0] @ cost
            guided = self.guide.bound_labels(bucket, joined, config, value, scalar)
            guided += self.tree.model.constant_value
            good = guided > self.floor
            parent, partner, config, value = parent[good], partner[good], config[good], value[good]
            cost, guided = cost[:, good], guided[good]
        bound = front.bound[:, parent] - labels.loss[:, partner]
        least = np.minimum(guided, bound.min(axis=0))
        return PartialLabels(config, value, cost, bound, least, parent, partner)

    def _raise_floor(
        self, labels: Labels, group: np.ndarray, afford: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """Find a floor above which there are few enough pairs; note that the rest is dropped."""
        low, high = self.floor, float(afford.max())
        counts = np.zeros(len(group), dtype=np.int64)
        for _ in range(24):
            middle = 0.5 * (low + high)
            some = count_partners(labels, group, afford - middle)
            if int(some.sum()) > PAIRS * self.held:
                low = middle
            else:
                high, counts = middle, some
                if int(some.sum()) > 0.7 * PAIRS * self.held:
                    break
        self.dropped = max(self.dropped, high)
        return high, counts

    def _drop_least(self, least: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Keep the ``width`` labels of ``index`` with the largest bounds; note what goes."""
        if len(index) <= self.held:
            return index
        least = least[index]
        order = np.argpartition(-least, self.held)
        self.dropped = max(self.dropped, float(least[order[self.held]]))
        return index[np.sort(order[: self.held])]

    def _pick_best(self, top: Bucket) -> list[int] | None:
        """Join the roots of the forest, pick the best feasible label, walk back to its choice."""
        model = self.tree.model
        none = np.zeros(1, dtype=np.int64)
        front = self.fronts[id(top)][0]
        steps = []
        for i, root in enumerate(top.children):
            front = self._join(front, none, root, (top, i + 1))
            steps.append((front.parent, front.partner))
        room = model.slack + model.tolerances
        feasible = np.flatnonzero((front.cost <= room[:, None]).all(axis=0))
        if not feasible.size:
            return None
        label = int(feasible[np.argmax(front.value[feasible])])
        choice = [0] * len(model.sizes)
        todo: list[tuple[Bucket, int]] = []
        for root, (parents, partners) in zip(reversed(top.children), reversed(steps)):
            todo.append((root, int(partners[label])))
            label = int(parents[label])
        while todo:
            bucket, label = todo.pop()
            labels = self.found[id(bucket)]
            entry = np.unravel_index(int(labels.entry[label]), bucket.array.shape)
            if bucket.variable >= 0:
                choice[bucket.variable] = int(entry[0])
            at = int(labels.origin[label])
            for child, (parents, partners) in zip(
                reversed(bucket.children), reversed(labels.steps)
            ):
                todo.append((child, int(partners[at])))
                at = int(parents[at])
        return choice
