"""The exact linearization of a model as a Pyomo program.

One binary per option, one continuous variable per admissible table entry; for every table, variable
of its scope and option, the entries with that option sum to the option's binary (the local
marginal polytope). With one-hot binaries the entries are their products, so no product is written.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..model import Factor, Model
from ..search import Search

#: Objective and budgets are scaled so that HiGHS's absolute tolerances are far below one part in
#: 10^9 of their ranges.
OBJECTIVE_RANGE = 2.0**20
BUDGET_RANGE = 2.0**10

#: Coefficients and columns.
_Sum = tuple[list[float], list[Any]]


@dataclass(eq=False)
class Linearization:
    """A Pyomo model and how its variables map to options.

    ``offsets`` delimits each variable's ``binaries``; ``entries`` holds each table's columns, scope
    and flat indices. The objective is a value times ``objective_scale``.
    """

    model: Any
    binaries: list
    offsets: np.ndarray
    objective_scale: float
    entries: list[tuple[list, tuple[int, ...], np.ndarray]] = field(default_factory=list)

    def read_choice(self, highs: Any) -> list[int] | None:
        """Return the options whose binaries are largest in HiGHS's last solution, if it has one."""
        try:
            found = highs.get_primals([b for b in self.binaries if not b.fixed])
        except RuntimeError:
            return None
        values = np.array([0.0 if b.fixed else found[b] for b in self.binaries])
        if not np.isfinite(values).all():
            return None
        return self.pick_largest(values)

    def pick_largest(self, values: np.ndarray) -> list[int]:
        """Return for every variable the option with the largest of ``values`` [options]."""
        return [int(np.argmax(values[a:b])) for a, b in zip(self.offsets[:-1], self.offsets[1:])]

    def warm_start(self, choice: list[int]) -> None:
        """Set every variable to what ``choice`` makes it."""
        chosen = {int(o) + c for o, c in zip(self.offsets[:-1], choice)}
        for i, binary in enumerate(self.binaries):
            binary.value = 1.0 if i in chosen else 0.0
        for columns, scope, flat in self.entries:
            shape = tuple(int(self.offsets[v + 1] - self.offsets[v]) for v in scope)
            one = np.ravel_multi_index(tuple(choice[v] for v in scope), shape)
            for column, index in zip(columns, flat):
                column.value = 1.0 if index == one else 0.0


def linearize(model: Model, search: Search) -> Linearization:
    """Write a model as a Pyomo program.

    Args:
        model: A restriction of the search's model.
        search: Its deadline holds; told where the constants alone break a budget.
    """
    from pyomo.environ import Objective, maximize

    offsets = np.concatenate(([0], np.cumsum(model.sizes)))
    levels = [_find_level(f) for f in model.factors]
    live = [_select_entries(f, level) for f, level in zip(model.factors, levels)]
    wide = sum(len(i) for i, f in zip(live, model.factors) if len(f.scope) > 1)
    program = _create_program(int(offsets[-1]), wide)
    binaries = list(program.option.values())
    entries = list(program.entry.values())
    span = measure_reach(model)[1]
    scale = OBJECTIVE_RANGE / span if span > 0 else 1.0
    scale = 2.0 ** round(math.log2(scale))
    result = Linearization(program, binaries, offsets, scale)
    scales = [scale, *(BUDGET_RANGE / x if x > 0 else 1.0 for x in _measure_cost_reach(model))]
    sums: list[_Sum] = [([], []) for _ in scales]
    taken = 0
    for v in range(len(model.sizes)):
        mine = binaries[offsets[v] : offsets[v + 1]]
        program.rows.add((1.0, _build_sum([1.0] * len(mine), mine), 1.0))
    for factor, flat, level in zip(model.factors, live, levels):
        search.check()
        if len(factor.scope) == 1:
            v = factor.scope[0]
            columns = [binaries[offsets[v] + i] for i in flat]
            for i in sorted(set(range(model.sizes[v])) - set(flat.tolist())):
                binaries[offsets[v] + i].fix(0)
        else:
            columns = entries[taken : taken + len(flat)]
            taken += len(flat)
            result.entries.append((columns, factor.scope, flat))
            _add_marginals(result, factor, flat, columns, level)
        if level is not None:
            v, option = level
            at = tuple(option if u == v else 0 for u in factor.scope)
            one = np.ravel_multi_index(at, factor.value.shape)
            _extend_sums(sums, scales, factor, np.array([one]), [binaries[offsets[v] + option]])
        _extend_sums(sums, scales, factor, flat, columns)
    for r, (coefficients, columns) in enumerate(sums[1:]):
        if columns:
            room = float(scales[r + 1] * (model.slack[r] + 0.5 * model.tolerances[r]))
            program.rows.add((None, _build_sum(coefficients, columns), room))
        elif model.slack[r] + model.tolerances[r] < 0:
            search.tighten(search.value)  # nothing costs here, and the constants are too dear
    program.value = Objective(expr=_build_sum(*sums[0]), sense=maximize)
    return result


def _create_program(options: int, entries: int) -> Any:
    """Return a Pyomo model with its columns, and no rows yet."""
    from pyomo.environ import Binary, ConcreteModel, ConstraintList, NonNegativeReals, Var

    program = ConcreteModel()
    program.option = Var(range(options), domain=Binary)
    program.entry = Var(range(entries), domain=NonNegativeReals)
    program.rows = ConstraintList()
    return program


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
    columns: list,
    level: tuple[int, int] | None,
) -> None:
    """Let the entries of each option sum to its binary, for every variable of the scope."""
    offsets, rows = result.offsets, result.model.rows
    index = np.unravel_index(flat, factor.value.shape)
    for v, options in zip(factor.scope, index):
        order = np.argsort(options, kind="stable")
        cuts = np.searchsorted(options[order], np.arange(offsets[v + 1] - offsets[v] + 1))
        lower = 0.0 if level is None or level[0] == v else None
        for option, (a, b) in enumerate(zip(cuts[:-1], cuts[1:])):
            if (v, option) == level:
                continue
            group = [columns[i] for i in order[a:b]]
            binary = result.binaries[offsets[v] + option]
            row = _build_sum([1.0] * len(group) + [-1.0], [*group, binary])
            rows.add((lower, row, 0.0))


def _build_sum(coefficients: list[float], columns: list) -> object:
    """Return the linear expression of these columns."""
    from pyomo.core.expr.numeric_expr import LinearExpression

    return LinearExpression(constant=0.0, linear_coefs=coefficients, linear_vars=columns)


def _extend_sums(
    sums: list[_Sum], scales: list[float], factor: Factor, flat: np.ndarray, columns: list
) -> None:
    """Add entries of a factor to the objective and to each budget's sum, in this order."""
    for (coefficients, terms), scale, array in zip(sums, scales, (factor.value, *factor.cost)):
        if array is None:
            continue
        for coefficient, column in zip((scale * array.ravel()[flat]).tolist(), columns):
            if coefficient:
                coefficients.append(coefficient)
                terms.append(column)


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
