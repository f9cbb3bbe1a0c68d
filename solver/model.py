"""The problem as the methods see it: scaled, merged, without variables that have no choice left.

Everything here is internal. A :class:`Model` is made from a :class:`~solver.Problem` once, and made
smaller by :meth:`Model.restrict` when options or table entries have been ruled out. Values and
costs are divided by powers of two, so that they are of order one whatever the user's units are;
powers of two change no bit of a mantissa. Values are shifted by each table's maximum as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
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
        """The budgets [R] less the constant costs: what is left to the factors."""
        return self.budgets - self.constant_cost

    @property
    def entries(self) -> int:
        """The number of admissible table entries."""
        if not self.inadmissible:
            return sum(f.value.size for f in self.factors)
        return sum(int(np.isfinite(f.value).sum()) for f in self.factors)

    def replace_budgets(self, budgets: np.ndarray) -> Model:
        """Return the same tables under other budgets [R], given in the problem's units."""
        scaled = budgets / self.units.cost_unit
        rounding = self.tolerances - FEASIBILITY * self.budgets
        return replace(self, budgets=scaled, tolerances=FEASIBILITY * scaled + rounding)

    def select_budgets(self, chosen: Sequence[int]) -> Model:
        """Return the same tables under these of the budgets alone."""
        units = self.units
        names = tuple(units.resources[r] for r in chosen)
        return replace(
            self,
            factors=[replace(f, cost=[f.cost[r] for r in chosen]) for f in self.factors],
            budgets=self.budgets[chosen],
            tolerances=self.tolerances[chosen],
            constant_cost=self.constant_cost[chosen],
            units=replace(units, resources=names, cost_unit=units.cost_unit[chosen]),
        )

    def evaluate(self, choice: Sequence[int]) -> tuple[float, np.ndarray]:
        """Return scaled value and costs [R] of a choice of the free variables."""
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

    def is_feasible(self, cost: np.ndarray) -> bool:
        """Return whether costs [R] keep all budgets, up to rounding."""
        return bool((cost <= self.budgets + self.tolerances).all())

    def complete(self, choice: Sequence[int]) -> np.ndarray:
        """Return the options of all the problem's variables, given those of the free ones."""
        full = self.fixed.copy()
        for i, option in enumerate(choice):
            full[self.variables[i]] = self.keep[i][option]
        return full

    def project(self, options: np.ndarray) -> list[int] | None:
        """Return the free variables' part of a complete choice; None where it is ruled out."""
        choice = [int(np.searchsorted(k, options[p])) for p, k in zip(self.variables, self.keep)]
        known = all(option < len(k) for option, k in zip(choice, self.keep))
        return choice if known and (self.complete(choice) == options).all() else None

    def restrict(self, alive: Sequence[np.ndarray], values: Sequence[np.ndarray]) -> Model:
        """Return the model without some options and entries.

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
        return simplify(replace(self, factors=factors, keep=keep))


@dataclass(frozen=True, eq=False)
class Units:
    """The scale: (value - value_offset) / value_unit, and cost_r / cost_unit[r]."""

    resources: tuple[str, ...]
    value_unit: float
    value_offset: float
    cost_unit: np.ndarray

    def unscale_value(self, scaled: float) -> float:
        """Return a scaled value or bound in the problem's own unit."""
        return scaled * self.value_unit + self.value_offset

    def unscale_prices(self, multipliers: np.ndarray) -> dict[str, float]:
        """Return scaled multipliers [R] as value per unit of each resource."""
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
    value_unit = _round_to_power_of_two(span)
    limits = np.array([budgets[r] for r in resources], dtype=np.float64)
    cost_unit = np.array([_round_to_power_of_two(x) for x in reach])
    factors = [
        Factor(
            scope,
            (value - top) / value_unit,
            [None if c is None else c / u for c, u in zip(cost, cost_unit)],
        )
        for scope, value, top, cost in raw
    ]
    model = Model(
        sizes=tuple(problem.options.values()),
        factors=factors,
        budgets=limits / cost_unit,
        # Sums of many floats miss by a few units in the last place; a budget of zero needs it too.
        tolerances=(FEASIBILITY * limits + 1e-14 * reach) / cost_unit,
        constant_value=0.0,
        constant_cost=np.zeros(len(resources)),
        variables=tuple(range(len(names))),
        keep=[np.arange(n) for n in problem.options.values()],
        fixed=np.zeros(len(names), dtype=np.int64),
        units=Units(resources, value_unit, math.fsum(offsets), cost_unit),
        inadmissible=inadmissible,
    )
    simple = simplify(model)
    simple.inadmissible |= inadmissible
    return simple


def _round_to_power_of_two(x: float) -> float:
    """Return the power of two at or above x, kept away from the ends of the range; 1 for 0."""
    if x <= 0:
        return 1.0
    return float(2.0 ** max(-1000, min(1000, math.frexp(x)[1])))


def simplify(model: Model) -> Model:
    """Take out variables of one option, and merge factors whose scope lies in another's."""
    free = [i for i, k in enumerate(model.keep) if len(k) > 1]
    index = {old: new for new, old in enumerate(free)}
    fixed = model.fixed.copy()
    for i, k in enumerate(model.keep):
        if len(k) == 1:
            fixed[model.variables[i]] = k[0]
    values = [model.constant_value]
    costs = [[c] for c in model.constant_cost]
    merged: dict[tuple[int, ...], Factor] = {}
    for factor in model.factors:
        part = _drop_fixed(factor, index)
        if not part.scope:
            values.append(float(part.value))
            for r, c in enumerate(part.cost):
                if c is not None:
                    costs[r].append(float(c))
        elif part.scope in merged:
            _add(merged[part.scope], part)
        else:
            # A copy of its own: _add writes into it.
            own = [None if c is None else np.array(c, order="C") for c in part.cost]
            merged[part.scope] = Factor(part.scope, np.array(part.value, order="C"), own)
    factors = _merge_nested(merged.values())
    inadmissible = -math.inf in values or any(np.isneginf(f.value).any() for f in factors)
    return replace(
        model,
        sizes=tuple(len(model.keep[i]) for i in free),
        factors=factors,
        constant_value=-math.inf if -math.inf in values else math.fsum(values),
        constant_cost=np.array([math.fsum(c) for c in costs]),
        variables=tuple(model.variables[i] for i in free),
        keep=[model.keep[i] for i in free],
        fixed=fixed,
        inadmissible=inadmissible,
    )


def _drop_fixed(factor: Factor, index: Mapping[int, int]) -> Factor:
    """Return the factor over the variables in ``index`` alone, renamed by it and sorted."""
    scope = tuple(index[v] for v in factor.scope if v in index)
    shape = tuple(n for v, n in zip(factor.scope, factor.value.shape) if v in index)
    order = tuple(int(i) for i in np.argsort(scope))
    value = factor.value.reshape(shape).transpose(order)
    cost = [None if c is None else c.reshape(shape).transpose(order) for c in factor.cost]
    return Factor(tuple(scope[i] for i in order), value, cost)


def _merge_nested(factors: Iterable[Factor]) -> list[Factor]:
    """Add every factor to the smallest whose scope holds its own, if any; return what is left."""
    by_size = sorted(factors, key=lambda f: f.value.size)
    holders: dict[int, list[tuple[int, Factor]]] = {}
    for rank, factor in enumerate(by_size):
        for v in factor.scope:
            holders.setdefault(v, []).append((rank, factor))
    left = []
    for rank, factor in enumerate(by_size):
        outer = [
            other
            for position, other in holders[factor.scope[0]]
            if position > rank and set(factor.scope) < set(other.scope)
        ]
        if outer:
            _add(outer[0], factor)
        else:
            left.append(factor)
    return left


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
