"""A bound of completions that knows the budget: dynamic programming over a grid of costs.

Multipliers bound a completion as if choices could be mixed, which is far off where whole blocks
come and go. Here the budgets are added up into one (a surrogate, weighted by the multipliers;
Glover, *Surrogate constraints*, Operations Research 16, 1968), its costs are rounded down to the
cells of a grid, and the upper part of the bucket tree, where few variables meet many subtrees, is
solved exactly for every number of cells. Rounding down keeps the bound true; the labels that it
guides keep their exact costs, so its error shrinks the more of them are joined.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

#: Seconds that a call of numpy takes, and a number in it: a rough model of the work.
CALL, NUMBER = 2.5e-6, 8e-10


@dataclass(frozen=True, eq=False)
class Steps:
    """A message by group: the values [n] that cells [n] of cost bring, ascending in a group."""

    starts: np.ndarray
    cell: np.ndarray
    value: np.ndarray

    def get_group(self, group: int) -> tuple[np.ndarray, np.ndarray]:
        """Return cells and values of one group."""
        part = slice(self.starts[group], self.starts[group + 1])
        return self.cell[part], self.value[part]


def collect_steps(
    group: np.ndarray, groups: int, cell: np.ndarray, value: np.ndarray, cells: int
) -> Steps:
    """Return the steps of labels given by group, cell and value; those beyond the grid are left."""
    inside = np.flatnonzero(cell < cells)
    order = inside[np.lexsort((-value[inside], cell[inside], group[inside]))]
    group, cell, value = group[order], cell[order], value[order]
    starts = np.concatenate(([0], np.cumsum(np.bincount(group, minlength=groups))))
    keep = np.zeros(len(order), dtype=bool)
    for a, b in zip(starts[:-1], starts[1:]):
        if a < b:
            best = np.maximum.accumulate(value[a:b])
            keep[a] = True
            keep[a + 1 : b] = value[a + 1 : b] > best[:-1]
    counts = np.bincount(group[keep], minlength=groups)
    return Steps(np.concatenate(([0], np.cumsum(counts))), cell[keep], value[keep])


def collect_dense(rows: np.ndarray) -> Steps:
    """Return the steps of ascending rows [groups, cells]."""
    rise = np.ones(rows.shape, dtype=bool)
    rise[:, 1:] = rows[:, 1:] > rows[:, :-1]
    rise &= rows > -np.inf
    group, cell = np.nonzero(rise)
    starts = np.concatenate(([0], np.cumsum(np.bincount(group, minlength=len(rows)))))
    return Steps(starts, cell, rows[group, cell])


def convolve(
    rows: np.ndarray, group: np.ndarray, steps: Steps, check: Callable[[], None]
) -> np.ndarray:
    """Return for each row [n, cells] the best sum with a step of its group, by cells of both."""
    out = np.full_like(rows, -np.inf)
    cells = rows.shape[1]
    if _is_dense(group, steps, cells):
        worth = _spread(steps, cells)
        for cell in range(cells):
            check()
            part = rows[:, : cells - cell] + worth[group, cell][:, None]
            np.maximum(out[:, cell:], part, out=out[:, cell:])
        return out
    room = np.empty(cells)
    for row, target, own in zip(rows, out, group.tolist()):
        check()
        for cell, value in zip(*(a.tolist() for a in steps.get_group(own))):
            part = room[: cells - cell]
            np.add(row[: cells - cell], value, out=part)
            np.maximum(target[cell:], part, out=target[cell:])
    return out


def correlate(
    rows: np.ndarray, group: np.ndarray, steps: Steps, check: Callable[[], None]
) -> np.ndarray:
    """Return what is left to come before a step of its group was taken: convolve, backwards.

    ``rows`` [n, cells] say what can still come after so many cells are used.
    """
    out = np.full_like(rows, -np.inf)
    cells = rows.shape[1]
    if _is_dense(group, steps, cells):
        worth = _spread(steps, cells)
        for cell in range(cells):
            check()
            part = rows[:, cell:] + worth[group, cell][:, None]
            np.maximum(out[:, : cells - cell], part, out=out[:, : cells - cell])
        return out
    room = np.empty(cells)
    for row, target, own in zip(rows, out, group.tolist()):
        check()
        for cell, value in zip(*(a.tolist() for a in steps.get_group(own))):
            part = room[: cells - cell]
            np.add(row[cell:], value, out=part)
            np.maximum(target[: cells - cell], part, out=target[: cells - cell])
    return out


def _is_dense(group: np.ndarray, steps: Steps, cells: int) -> bool:
    """Return whether shifting all rows at once is cheaper than step by step."""
    count = float(np.diff(np.append(steps.starts, steps.starts[-1]))[group].sum())
    together = cells * (1e-5 + 0.5 * len(group) * cells * NUMBER)
    return together < count * (CALL + cells * NUMBER)


def _spread(steps: Steps, cells: int) -> np.ndarray:
    """Return the steps as an array [groups + 1, cells], -inf between them."""
    groups = len(steps.starts)
    worth = np.full((groups, cells), -np.inf)
    worth[np.repeat(np.arange(groups - 1), np.diff(steps.starts)), steps.cell] = steps.value
    return worth


def convolve_single(
    cell: np.ndarray, value: np.ndarray, group: np.ndarray, dense: np.ndarray
) -> np.ndarray:
    """As :func:`convolve`, where every row is one step at ``cell`` [n] of ``value`` [n]."""
    out = np.full((len(cell), dense.shape[1]), -np.inf)
    for target, at, worth, own in zip(out, cell.tolist(), value.tolist(), group.tolist()):
        if at < len(target):
            np.add(dense[own, : len(target) - at], worth, out=target[at:])
    return out


@dataclass(eq=False)
class Node:
    """A bucket of the upper part as the grid sees it.

    Its ``n`` open entries have a ``cell`` and a ``value`` of their own, lie in the row ``up`` of
    the message, and in the row ``down[i]`` of child i's. ``after[i]`` are rows and an index of what
    is still to come once i children are joined, ``base[i]`` the cost at which their cells start.
    ``check`` is called often, and may raise.
    """

    cell: np.ndarray
    value: np.ndarray
    up: np.ndarray
    rows: int
    children: list[Node | Steps]
    down: list[np.ndarray]
    base: list[float]
    check: Callable[[], None]
    message: np.ndarray | None = None
    entry_bound: np.ndarray | None = None
    after: list[tuple[np.ndarray, np.ndarray] | None] = field(default_factory=list)

    def send(self, cells: int) -> np.ndarray:
        """Compute and return the message [rows, cells]: the best value for up to so many cells."""
        message = np.full((self.rows + 1, cells), -np.inf)
        first = self.children[0] if self.children else None
        if isinstance(first, Node) and len(self.children) == 1:
            self._send_alone(first, message)
        else:
            for row, total in zip(self.up.tolist(), self._join(len(self.children), cells)):
                np.maximum(message[row], total, out=message[row])
        self.message = message
        return message

    def _send_alone(self, child: Node, message: np.ndarray) -> None:
        """Send without an array over entries and cells: only one dense child is joined."""
        assert child.message is not None
        cells = message.shape[1]
        self.check()
        for at, worth, row, own in zip(
            self.cell.tolist(), self.value.tolist(), self.up.tolist(), self.down[0].tolist()
        ):
            if at < cells:
                target = message[row, at:]
                np.maximum(target, child.message[own, : cells - at] + worth, out=target)

    def _join(self, count: int, cells: int) -> np.ndarray:
        """Return the rows [n, cells] of the entries joined with the first ``count`` children."""
        rows = np.full((len(self.cell), cells), -np.inf)
        for row, at, worth in zip(rows, self.cell.tolist(), self.value.tolist()):
            row[at:] = worth
        for i, child in enumerate(self.children[:count]):
            if isinstance(child, Node):
                assert child.message is not None
                if i == 0:
                    rows = convolve_single(self.cell, self.value, self.down[i], child.message)
                    continue
                child = collect_dense(child.message)
            rows = convolve(rows, self.down[i], child, self.check)
        return rows

    def receive(self, outside: np.ndarray) -> None:
        """Take what may still come [rows + 1, cells], and pass it on to the children."""
        rows, index = outside, self.up
        cells = outside.shape[1]
        self.after = [None] * (len(self.children) + 1)
        for i in range(len(self.children), 0, -1):
            self.after[i] = (rows, index)
            child = self.children[i - 1]
            if isinstance(child, Node):
                self._pass_down(child, i, rows, index)
                if i == 1:
                    self.entry_bound = self._bound_entries(child, rows, index)
                    return
                assert child.message is not None
                child = collect_dense(child.message)
            rows = correlate(rows[index], self.down[i - 1], child, self.check)
            index = np.arange(len(rows))
        inside = np.minimum(self.cell, cells - 1)
        self.entry_bound = np.where(self.cell < cells, self.value + rows[index, inside], -np.inf)

    def _pass_down(self, child: Node, i: int, rows: np.ndarray, index: np.ndarray) -> None:
        """Tell child i - 1, a node, what comes beside it: the entries and the children before."""
        cells = rows.shape[1]
        outside = np.full((child.rows + 1, cells), -np.inf)
        if i == 1:
            for at, worth, row, own in zip(
                self.cell.tolist(), self.value.tolist(), index.tolist(), self.down[0].tolist()
            ):
                if at < cells:
                    target = outside[own, : cells - at]
                    np.maximum(target, rows[row, at:] + worth, out=target)
        else:
            steps = collect_dense(self._join(i - 1, cells))
            beside = correlate(rows[index], np.arange(len(self.cell)), steps, self.check)
            for own, row in zip(self.down[i - 1].tolist(), beside):
                np.maximum(outside[own], row, out=outside[own])
        outside[-1] = -np.inf
        child.receive(outside)

    def _bound_entries(self, child: Node, rows: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Bound every entry by the best split of the cells between the first child and the rest."""
        assert child.message is not None
        cells = rows.shape[1]
        bound = np.full(len(self.cell), -np.inf)
        for e, (at, row, own) in enumerate(
            zip(self.cell.tolist(), index.tolist(), self.down[0].tolist())
        ):
            if at < cells:
                bound[e] = (child.message[own, : cells - at] + rows[row, at:]).max()
        return bound + self.value
