"""The exact linearization of a model as a mixed-integer program.

One binary per option, one continuous variable per admissible table entry; for every table, variable
of its scope and option, the entries with that option sum to the option's binary (the local
marginal polytope). With one-hot binaries the entries are their products, so no product is written.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from ..model import Factor, Model

#: Objective and budgets are scaled so that HiGHS's absolute tolerances are far below one part in
#: 10^9 of their ranges.
OBJECTIVE_RANGE = 2.0**20
BUDGET_RANGE = 2.0**10


@dataclass(eq=False)
class Linearization:
    """Arrays of the program, and how its columns map to options.

    The first columns are the binaries, delimited by ``offsets`` for each variable; the entries of
    tables follow, ``entries`` holds each table's first column, scope, shape and flat indices. The
    objective is a value times ``objective_scale``.
    """

    offsets: np.ndarray
    objective_scale: float
    objective: np.ndarray
    upper: np.ndarray
    entries: list[tuple[int, tuple[int, ...], tuple[int, ...], np.ndarray]]
    rows: list[np.ndarray] = field(default_factory=list)
    columns: list[np.ndarray] = field(default_factory=list)
    coefficients: list[np.ndarray] = field(default_factory=list)
    row_lower: list[float] = field(default_factory=list)
    row_upper: list[float] = field(default_factory=list)

    def add_row(
        self, lower: float, columns: np.ndarray, coefficients: np.ndarray, upper: float
    ) -> None:
        """Add ``lower <= coefficients . columns <= upper``."""
        self.rows.append(np.full(len(columns), len(self.row_lower)))
        self.columns.append(columns)
        self.coefficients.append(coefficients)
        self.row_lower.append(lower)
        self.row_upper.append(upper)

    def pick_largest(self, values: np.ndarray) -> list[int]:
        """Return for every variable the option with the largest of ``values`` [columns]."""
        return [int(np.argmax(values[a:b])) for a, b in zip(self.offsets[:-1], self.offsets[1:])]

    def write_choice(self, choice: list[int]) -> np.ndarray:
        """Return the columns' values at a choice."""
        values = np.zeros(len(self.objective))
        values[self.offsets[:-1] + np.array(choice, dtype=np.int64)] = 1.0
        for first, scope, shape, flat in self.entries:
            one = np.ravel_multi_index(tuple(choice[v] for v in scope), shape)
            values[first + np.flatnonzero(flat == one)] = 1.0
        return values


def linearize(model: Model) -> Linearization:
    """Write a model as a program."""
    offsets = np.concatenate(([0], np.cumsum(model.sizes))).astype(np.int64)
    levels = [_find_level(f) for f in model.factors]
    live = [_select_entries(f, level) for f, level in zip(model.factors, levels)]
    wide = sum(len(i) for i, f in zip(live, model.factors) if len(f.scope) > 1)
    count = int(offsets[-1]) + wide
    span = measure_reach(model)[1]
    scale = 2.0 ** round(math.log2(OBJECTIVE_RANGE / span)) if span > 0 else 1.0
    scales = [scale, *(BUDGET_RANGE / x if x > 0 else 1.0 for x in _measure_cost_reach(model))]
    sums = np.zeros((len(scales), count))
    result = Linearization(offsets, scale, sums[0], np.ones(count), [])
    taken = int(offsets[-1])
    for v in range(len(model.sizes)):
        mine = np.arange(offsets[v], offsets[v + 1])
        result.add_row(1.0, mine, np.ones(len(mine)), 1.0)
    for factor, flat, level in zip(model.factors, live, levels):
        if len(factor.scope) == 1:
            v = factor.scope[0]
            columns = offsets[v] + flat
            result.upper[np.setdiff1d(np.arange(offsets[v], offsets[v + 1]), columns)] = 0.0
        else:
            columns = np.arange(taken, taken + len(flat))
            result.entries.append((taken, factor.scope, factor.value.shape, flat))
            taken += len(flat)
            _add_marginals(result, factor, flat, columns, level)
        if level is not None:
            v, option = level
            at = tuple(option if u == v else 0 for u in factor.scope)
            one = np.ravel_multi_index(at, factor.value.shape)
            _extend_sums(sums, scales, factor, np.array([one]), offsets[v] + np.array([option]))
        _extend_sums(sums, scales, factor, flat, columns)
    for r, row in enumerate(sums[1:]):
        used = np.flatnonzero(row)
        room = float(scales[r + 1] * (model.slack[r] + 0.5 * model.tolerances[r]))
        result.add_row(-math.inf, used, row[used], room)
    return result


def _find_level(factor: Factor) -> tuple[int, int] | None:
    """Find a variable and an option of it at which nothing depends on the other variables.

    A closed gate is one. Its entries need no columns: whatever the other variables' marginals leave
    over is spread over them as a product, so the others' sums become upper bounds, exactly.
    """
    if len(factor.scope) < 2 or not np.isfinite(factor.value).all():
        return None
    arrays = [factor.value, *(c for c in factor.cost if c is not None)]
    for axis in np.argsort(factor.value.shape, kind="stable"):
        lines = [np.moveaxis(a, axis, 0).reshape(a.shape[axis], -1) for a in arrays]
        level = np.all([(x == x[:, :1]).all(axis=1) for x in lines], axis=0)
        if level.any():
            return factor.scope[axis], int(np.argmax(level))
    return None


def _select_entries(factor: Factor, level: tuple[int, int] | None) -> np.ndarray:
    """Return the flat indices of the entries that become columns."""
    keep = np.isfinite(factor.value)
    if level is not None:
        index = tuple(level[1] if v == level[0] else slice(None) for v in factor.scope)
        keep[index] = False
    return np.flatnonzero(keep)


def _add_marginals(
    result: Linearization,
    factor: Factor,
    flat: np.ndarray,
    columns: np.ndarray,
    level: tuple[int, int] | None,
) -> None:
    """Let the entries of each option sum to its binary, for every variable of the scope."""
    offsets = result.offsets
    index = np.unravel_index(flat, factor.value.shape)
    for v, options in zip(factor.scope, index):
        order = np.argsort(options, kind="stable")
        cuts = np.searchsorted(options[order], np.arange(offsets[v + 1] - offsets[v] + 1))
        lower = 0.0 if level is None or level[0] == v else -math.inf
        for option, (a, b) in enumerate(zip(cuts[:-1], cuts[1:])):
            if (v, option) == level:
                continue
            group = np.append(columns[order[a:b]], offsets[v] + option)
            signs = np.ones(len(group))
            signs[-1] = -1.0
            result.add_row(lower, group, signs, 0.0)


def _extend_sums(
    sums: np.ndarray, scales: list[float], factor: Factor, flat: np.ndarray, columns: np.ndarray
) -> None:
    """Add entries of a factor to the objective and to each budget's sum, in this order."""
    for row, scale, array in zip(sums, scales, (factor.value, *factor.cost)):
        if array is not None:
            row[columns] += scale * array.ravel()[flat]


def measure_reach(model: Model) -> tuple[float, float]:
    """Return the largest conceivable value of the factors, and the sum of their ranges."""
    top = span = 0.0
    for factor in model.factors:
        finite = factor.value[np.isfinite(factor.value)]
        if finite.size:
            top += float(finite.max())
            span += float(finite.max() - finite.min())
    return top, span


def _measure_cost_reach(model: Model) -> list[float]:
    """Return the largest conceivable magnitude of every cost [R]."""
    reach = [0.0] * len(model.budgets)
    for factor in model.factors:
        for r, cost in enumerate(factor.cost):
            if cost is not None:
                reach[r] += float(np.abs(cost).max())
    return reach
