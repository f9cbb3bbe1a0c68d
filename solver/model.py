"""The problem as the methods see it: scaled, merged, without variables that have no choice left.

Everything here is internal. A :class:`Model` is made from a :class:`~solver.Problem` once, and made
smaller by :meth:`Model.restrict` when options or table entries have been ruled out. Values and
costs are divided by powers of two, so that they are of order one whatever the user's units are;
powers of two change no bit of a mantissa. Values are shifted by each table's maximum as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .problem import Problem

#: A cost may exceed its budget by this share of the budget (rounding of sums; documented).
FEASIBILITY = 1e-9


@dataclass(eq=False)
class Factor:
    """One table: ``value`` [n_1, ..., n_k] and, for every resource, a cost of that shape or None.

    None is zero everywhere: most tables of importance cost nothing, and the evaluations skip them.
    """

    scope: tuple[int, ...]
    value: np.ndarray
    cost: list[np.ndarray | None]


@dataclass(eq=False)
class Model:
    """Free variables (indices into ``sizes``), factors over them, budgets; scaled.

    ``variables[i]`` is free variable i's position in the problem, ``keep[i]`` the options of the
    problem that its options stand for, and ``fixed[p]`` the option of every other variable.
    The value of a choice is ``constant_value`` plus the factors'; likewise the costs [R].
    Where variables were split (see :mod:`~solver.split`), ``split_from`` is the model before and
    ``origin[i]`` the variable there that free variable i is a copy of.
    """

    sizes: tuple[int, ...]
    factors: list[Factor]
    budgets: np.ndarray
    tolerances: np.ndarray
    constant_value: float
    constant_cost: np.ndarray
    variables: tuple[int, ...]
    keep: list[np.ndarray]
    fixed: np.ndarray
    units: Units
    inadmissible: bool
    split_from: Model | None = None
    origin: tuple[int, ...] = ()

    @property
    def slack(self) -> np.ndarray:
        """What of the budgets [R] the constants leave to the factors."""
        return self.budgets - self.constant_cost

    @property
    def entries(self) -> int:
        """Number of admissible table entries."""
        if not self.inadmissible:
            return sum(f.value.size for f in self.factors)
        return sum(int(np.isfinite(f.value).sum()) for f in self.factors)

    def with_budgets(self, budgets: np.ndarray) -> Model:
        """The same tables under other budgets [R], given in the problem's units."""
        scaled = budgets / self.units.cost_unit
        rounding = self.tolerances - FEASIBILITY * self.budgets
        return replace(self, budgets=scaled, tolerances=FEASIBILITY * scaled + rounding)

    def evaluate(self, choice: Sequence[int]) -> tuple[float, np.ndarray]:
        """Scaled value and costs [R] of a choice of the free variables."""
        values = [self.constant_value]
        costs = [[c] for c in self.constant_cost]
        for factor in self.factors:
            index = tuple(choice[v] for v in factor.scope)
            values.append(float(factor.value[index]))
            for r, array in enumerate(factor.cost):
                if array is not None:
                    costs[r].append(float(array[index]))
        value = -math.inf if -math.inf in values else math.fsum(values)
        return value, np.array([math.fsum(c) for c in costs])

    def feasible(self, cost: np.ndarray) -> bool:
        """Whether costs [R] keep all budgets, up to rounding."""
        return bool((cost <= self.budgets + self.tolerances).all())

    def complete(self, choice: Sequence[int]) -> np.ndarray:
        """Options of all the problem's variables, from those of the free ones."""
        full = self.fixed.copy()
        for i, option in enumerate(choice):
            full[self.variables[i]] = self.keep[i][option]
        return full

    def restrict(self, alive: Sequence[np.ndarray], values: Sequence[np.ndarray]) -> Model:
        """Drop options and entries.

        Args:
            alive: For every free variable, which options stay [n_i], at least one each.
            values: For every factor its value array, with -inf at the entries ruled out.
        """
        factors = []
        for factor, value in zip(self.factors, values):
            index = np.ix_(*(np.flatnonzero(alive[v]) for v in factor.scope))
            cost = [None if c is None else np.ascontiguousarray(c[index]) for c in factor.cost]
            factors.append(Factor(factor.scope, np.ascontiguousarray(value[index]), cost))
        keep = [k[a] for k, a in zip(self.keep, alive)]
        return _tidy(
            factors,
            keep,
            self.variables,
            self.fixed,
            self.budgets,
            self.tolerances,
            self.constant_value,
            self.constant_cost,
            self.units,
        )


@dataclass(frozen=True, eq=False)
class Units:
    """Scaled value = (value - value_offset) / value_unit; scaled cost_r = cost_r / cost_unit[r]."""

    resources: tuple[str, ...]
    value_unit: float
    value_offset: float
    cost_unit: np.ndarray

    def value(self, scaled: float) -> float:
        """A scaled value or bound in the problem's own unit."""
        return scaled * self.value_unit + self.value_offset

    def price(self, multipliers: np.ndarray) -> dict[str, float]:
        """Scaled multipliers [R] as value per unit of each resource."""
        return {
            r: float(m) * self.value_unit / float(u)
            for r, m, u in zip(self.resources, multipliers, self.cost_unit)
        }


def build(problem: Problem, budgets: Mapping[str, float]) -> Model:
    """Scale and merge a problem's tables; ``budgets`` are checked already."""
    resources = tuple(budgets)
    names = {v: i for i, v in enumerate(problem.options)}
    raw = []
    offsets = []
    span = 0.0
    reach = np.zeros(len(resources))
    inadmissible = False
    for table in problem.tables:
        shape = problem.shape(table)
        scope = tuple(names[v] for v in table.scope)
        value = np.zeros(shape) if table.value is None else np.broadcast_to(table.value, shape)
        top = float(value.max())
        if math.isinf(top):  # nothing in this table is admissible
            top = 0.0
            inadmissible = True
        bottom = float(value.min())
        if math.isinf(bottom):
            bottom = float(value[np.isfinite(value)].min(initial=top))
        offsets.append(top)
        span += top - bottom
        cost: list[np.ndarray | None] = []
        for r, resource in enumerate(resources):
            array = table.cost.get(resource)
            if array is None or not array.any():
                cost.append(None)
                continue
            reach[r] += float(np.abs(array).max())
            cost.append(np.broadcast_to(array, shape))
        raw.append((scope, value, top, cost))
    value_unit = _power_of_two(span)
    limits = np.array([budgets[r] for r in resources], dtype=np.float64)
    cost_unit = np.array([_power_of_two(x) for x in reach])
    factors = [
        Factor(
            scope,
            (value - top) / value_unit,
            [None if c is None else c / u for c, u in zip(cost, cost_unit)],
        )
        for scope, value, top, cost in raw
    ]
    # Sums of many floats miss by a few units in the last place; a budget of zero needs it too.
    tolerances = (FEASIBILITY * limits + 1e-14 * reach) / cost_unit
    model = _tidy(
        factors,
        [np.arange(n) for n in problem.options.values()],
        tuple(range(len(names))),
        np.zeros(len(names), dtype=np.int64),
        limits / cost_unit,
        tolerances,
        0.0,
        np.zeros(len(resources)),
        Units(resources, value_unit, math.fsum(offsets), cost_unit),
    )
    model.inadmissible |= inadmissible
    return model


def _power_of_two(x: float) -> float:
    """The power of two at or above a positive x, kept away from the ends of the range; 1 for 0."""
    if x <= 0:
        return 1.0
    return float(2.0 ** max(-1000, min(1000, math.frexp(x)[1])))


def _tidy(
    factors: list[Factor],
    keep: list[np.ndarray],
    variables: tuple[int, ...],
    fixed: np.ndarray,
    budgets: np.ndarray,
    tolerances: np.ndarray,
    constant_value: float,
    constant_cost: np.ndarray,
    units: Units,
) -> Model:
    """Take out variables of one option, and merge factors whose scope lies in another's."""
    free = [i for i, k in enumerate(keep) if len(k) > 1]
    index = {old: new for new, old in enumerate(free)}
    fixed = fixed.copy()
    for i, k in enumerate(keep):
        if len(k) == 1:
            fixed[variables[i]] = k[0]
    values = [constant_value]
    costs = [[c] for c in constant_cost]
    merged: dict[tuple[int, ...], Factor] = {}
    small = []
    for factor in factors:
        scope = tuple(index[v] for v in factor.scope if v in index)
        shape = tuple(n for v, n in zip(factor.scope, factor.value.shape) if v in index)
        if not scope:
            values.append(float(factor.value.reshape(())))
            for r, c in enumerate(factor.cost):
                if c is not None:
                    costs[r].append(float(c.reshape(())))
            continue
        order = tuple(int(i) for i in np.argsort(scope))
        scope = tuple(scope[i] for i in order)
        value = factor.value.reshape(shape).transpose(order)
        cost = [None if c is None else c.reshape(shape).transpose(order) for c in factor.cost]
        if scope in merged:
            _add(merged[scope], Factor(scope, value, cost))
        else:
            # A copy of its own: _add writes into it.
            merged[scope] = Factor(
                scope,
                np.array(value, order="C"),
                [None if c is None else np.array(c, order="C") for c in cost],
            )
    by_size = sorted(merged.values(), key=lambda f: f.value.size)
    holders: dict[int, list[Factor]] = {}
    for f in by_size:
        for v in f.scope:
            holders.setdefault(v, []).append(f)
    rank = {id(g): p for p, g in enumerate(by_size)}
    for position, f in enumerate(by_size):
        inside = [
            g for g in holders[f.scope[0]] if rank[id(g)] > position and set(f.scope) < set(g.scope)
        ]
        if inside:
            _add(inside[0], f)
        else:
            small.append(f)
    inadmissible = any(bool(np.isneginf(f.value).any()) for f in small)
    return Model(
        sizes=tuple(len(keep[i]) for i in free),
        factors=small,
        budgets=budgets,
        tolerances=tolerances,
        constant_value=-math.inf if -math.inf in values else math.fsum(values),
        constant_cost=np.array([math.fsum(c) for c in costs]),
        variables=tuple(variables[i] for i in free),
        keep=[keep[i] for i in free],
        fixed=fixed,
        units=units,
        inadmissible=inadmissible or -math.inf in values,
    )


def _add(big: Factor, small: Factor) -> None:
    """Add ``small`` (scope inside ``big``'s, both in ascending order) into ``big``."""
    shape = tuple(
        small.value.shape[small.scope.index(v)] if v in small.scope else 1 for v in big.scope
    )
    big.value += small.value.reshape(shape)
    for r, c in enumerate(small.cost):
        if c is None:
            continue
        current = big.cost[r]
        if current is None:
            big.cost[r] = np.broadcast_to(c.reshape(shape), big.value.shape).copy()
        else:
            current += c.reshape(shape)
