"""The upper part of a bucket tree on a grid of costs: made from labels, read by labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .guide import CALL, NUMBER, Node, Steps, collect_steps
from .tree import Bucket

#: Grids are as fine as this allows: the numbers held.
MOST_NUMBERS = 20_000_000
CELLS = tuple(2**i for i in range(14, 4, -1))
#: Rounding of sums may not push a cost into the next cell.
ROUNDING = 1e-7


@dataclass(frozen=True, eq=False)
class Opened:
    """The open entries of a bucket: value [n], scalar cost [n] and flat separator index [n].

    ``groups[i]`` [n] is the flat index of the separator of child i.
    """

    value: np.ndarray
    cost: np.ndarray
    separator: np.ndarray
    groups: list[np.ndarray]


@dataclass(frozen=True, eq=False)
class LowerLabels:
    """The labels of a subtree below: group starts, value [n] and scalar cost [n]."""

    starts: np.ndarray
    value: np.ndarray
    cost: np.ndarray


class Guide:
    """Bounds of completions in the upper part of a tree, by exact costs of what is joined already.

    Args:
        buckets: The upper buckets in order of elimination, the last one a stand-in for the root.
        opened: Their open entries, by ``id``.
        lower: Labels of their other children, by ``id``.
        room: What all scalar costs together may be.
        seconds: What the grid may cost, roughly.
        check: Called often, and may raise.
        pessimistic: Round costs up instead: then what is left to come is sure to fit, but no bound.
    """

    def __init__(
        self,
        buckets: list[Bucket],
        opened: dict[int, Opened],
        lower: dict[int, LowerLabels],
        room: float,
        seconds: float,
        check: Callable[[], None],
        pessimistic: bool = False,
    ) -> None:
        self.check = check
        self.pessimistic = pessimistic
        bases = {key: float(x.cost.min()) for key, x in lower.items()}
        total = sum(bases.values()) + sum(float(opened[id(b)].cost.min()) for b in buckets)
        self.cells = _choose_cells(buckets, opened, lower, seconds)
        left = max(room - total, 0.0)
        self.unit = max(left / (self.cells - 1), 1e-300) * (1.0 + 1e-12)
        self.nodes: dict[int, Node] = {}
        self._ids: dict[int, np.ndarray] = {}
        self._totals: dict[int, float] = {}
        for bucket in buckets:
            self.nodes[id(bucket)] = self._build_node(bucket, opened, lower, bases)
        root = self.nodes[id(buckets[-1])]
        ends = np.zeros((root.rows + 1, self.cells))
        ends[-1] = -np.inf
        root.receive(ends)

    def _build_node(
        self,
        bucket: Bucket,
        opened: dict[int, Opened],
        lower: dict[int, LowerLabels],
        bases: dict[int, float],
    ) -> Node:
        mine = opened[id(bucket)]
        own = float(mine.cost.min())
        base, down = [own], []
        children: list[Node | Steps] = []
        for child, group in zip(bucket.children, mine.groups):
            if id(child) in self.nodes:
                node = self.nodes[id(child)]
                children.append(node)
                down.append(_look_up(self._ids[id(child)], group))
                base.append(base[-1] + self._totals[id(child)])
            else:
                labels = lower[id(child)]
                groups = len(labels.starts) - 1
                of = np.repeat(np.arange(groups), np.diff(labels.starts))
                cell = self._find_cell(labels.cost - bases[id(child)])
                children.append(collect_steps(of, groups, cell, labels.value, self.cells))
                down.append(group)
                base.append(base[-1] + bases[id(child)])
        ids, up = np.unique(mine.separator, return_inverse=True)
        cell = self._find_cell(mine.cost - own)
        node = Node(cell, mine.value, up.ravel(), len(ids), children, down, base, check=self.check)
        node.send(self.cells)
        self._ids[id(bucket)], self._totals[id(bucket)] = ids, base[-1]
        return node

    def _find_cell(self, cost: np.ndarray) -> np.ndarray:
        """Return the cells of costs above a base, rounded; those beyond the grid are its end."""
        cell = np.maximum(cost, 0.0) / self.unit
        cell = np.ceil(cell - ROUNDING) if self.pessimistic else np.floor(cell - ROUNDING)
        return np.clip(cell, 0, self.cells).astype(np.int64)

    def bound_labels(
        self, bucket: Bucket, joined: int, config: np.ndarray, value: np.ndarray, cost: np.ndarray
    ) -> np.ndarray:
        """Bound labels of a bucket that has joined so many children by their best completions."""
        node = self.nodes[id(bucket)]
        place = node.after[joined]
        assert place is not None
        rows, index = place
        cell = self._find_cell(cost - node.base[joined])
        out = value + rows[index[config], np.minimum(cell, self.cells - 1)]
        out[cell >= self.cells] = -np.inf
        return out


def _look_up(ids: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return the positions of groups in sorted ``ids``; ``len(ids)`` where one is not there."""
    position = np.minimum(np.searchsorted(ids, group), len(ids) - 1)
    return np.where(ids[position] == group, position, len(ids))


def _choose_cells(
    buckets: list[Bucket],
    opened: dict[int, Opened],
    lower: dict[int, LowerLabels],
    seconds: float,
) -> int:
    """Return the finest grid that fits into memory and time."""
    for cells in CELLS:
        numbers, cost = 0.0, 0.0
        for bucket in buckets:
            mine = opened[id(bucket)]
            count = len(mine.value)
            numbers += (len(bucket.children) - 1) * count + len(np.unique(mine.separator))
            for i, child in enumerate(bucket.children):
                calls = float(count * (cells if i else 1))
                if id(child) in lower:
                    starts = lower[id(child)].starts
                    calls = float(np.minimum(np.diff(starts)[mine.groups[i]], cells).sum())
                together = cells * (1e-5 + 0.5 * count * cells * NUMBER)
                cost += 2.5 * min(calls * (CALL + cells * NUMBER), together)
        if numbers * cells <= MOST_NUMBERS and cost <= seconds:
            return cells
    return CELLS[-1]
