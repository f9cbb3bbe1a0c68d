"""Exact linearization through Pyomo and HiGHS.

One binary per option, one continuous variable per admissible table entry; for every table, variable
of its scope and option, the entries with that option sum to the option's binary (the local
marginal polytope). With one-hot binaries the entries are their products, so no product is written.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..errors import MissingSolverError
from ..model import Model
from ..search import OutOfTime, Search

#: Objective and budgets are scaled so that HiGHS's absolute tolerances are far below one part in
#: 10^9 of their ranges.
OBJECTIVE_RANGE = 2.0**20
BUDGET_RANGE = 2.0**10


def milp(search: Search) -> None:
    """Solve the whole problem as one mixed-integer program."""
    milp_rest(search, search.model)


def milp_rest(search: Search, model: Model) -> None:
    """Solve what a restriction leaves, warm-started with the incumbent where it lies in it."""
    if model.constant_value == -math.inf:
        search.tighten(search.value)
        return
    total, _ = _reach(model)
    search.tighten(model.constant_value + total)
    if not model.sizes:
        search.offer(model, [])
        search.tighten(search.value)
        return
    try:
        import pyomo.environ as pyo
        from pyomo.contrib.appsi.base import TerminationCondition
        from pyomo.contrib.appsi.solvers import Highs
    except ImportError as error:
        raise MissingSolverError(
            f"method 'milp' needs pyomo and highspy ({error}); pip install pyomo highspy"
        ) from None
    highs = Highs()
    if not highs.available():
        raise MissingSolverError("method 'milp' needs HiGHS; pip install highspy")
    search.report("mixed-integer program: building")
    built = _build(pyo, model, search)
    search.check()
    if search.bound == -math.inf:
        return
    start = _start(search, model)
    if start is not None:
        built.warm_start(start)
    highs.config.load_solution = False
    highs.config.warmstart = start is not None
    highs.config.time_limit = max(search.remaining, 0.01)
    highs.highs_options = {
        "mip_rel_gap": 0.0,
        "mip_abs_gap": _absolute_gap(search, built.objective_scale),
        "mip_feasibility_tolerance": 1e-9,
        "primal_feasibility_tolerance": 1e-9,
        "dual_feasibility_tolerance": 1e-9,
        "threads": 1,
    }
    search.report("mixed-integer program: HiGHS")
    none = (TerminationCondition.infeasible, TerminationCondition.infeasibleOrUnbounded)
    results = _run(search, model, highs, built)
    lost = results.termination_condition == TerminationCondition.optimal and (
        results.best_objective_bound is None or math.isnan(results.best_objective_bound)
    )
    if results.termination_condition in none or lost:
        # HiGHS's presolve is known to call some feasible programs infeasible (HiGHS issues 2204,
        # 3296; one of this package's random tests meets it): only the search itself is believed.
        highs.highs_options = {**highs.highs_options, "presolve": "off"}
        highs.config.time_limit = max(search.remaining, 0.01)
        results = _run(search, model, highs, built)
    condition = results.termination_condition
    if condition in none:
        search.tighten(search.value)
        return
    choice = built.choice(highs)
    if choice is not None and not search.offer(model, choice) and search.choice is None:
        search.notes.append("HiGHS returned a choice that breaks a budget by rounding")
    bound = results.best_objective_bound
    if bound is not None and math.isfinite(bound):
        scaled = bound / built.objective_scale + model.constant_value
        # HiGHS works to absolute tolerances; what is left below them is its rounding.
        proven = condition == TerminationCondition.optimal and search.gap == 0.0
        rounding = 1e-9 * max(1.0, abs(scaled)) if proven else 0.0
        search.tighten(max(scaled - rounding, search.value))
    search.report("mixed-integer program: done")
    if condition == TerminationCondition.maxTimeLimit:
        raise OutOfTime


class Witness:
    """What HiGHS had found, should an interrupt make it forget.

    Subscribed to HiGHS's callbacks where this version of highspy has them; ``columns`` is its last
    improving solution, ``bound`` its last dual bound.
    """

    def __init__(self, engine: Any) -> None:
        self.columns: np.ndarray | None = None
        self.bound = math.inf
        if hasattr(engine, "cbMipImprovingSolution"):
            engine.cbMipImprovingSolution += self._improved
            engine.cbMipInterrupt += self._asked

    def _improved(self, event: Any) -> None:
        self.columns = np.array(event.data_out.mip_solution)

    def _asked(self, event: Any) -> None:
        if not math.isnan(event.data_out.mip_dual_bound):
            self.bound = float(event.data_out.mip_dual_bound)


def _run(search: Search, model: Model, highs: Any, built: Linearization) -> Any:
    """Solve; on an interrupt, hand over what HiGHS had and let the interrupt pass."""
    highs.set_instance(built.model)
    config = highs.update_config
    for check in (
        "check_for_new_or_removed_constraints",
        "check_for_new_or_removed_vars",
        "check_for_new_or_removed_params",
        "update_constraints",
        "update_vars",
        "update_params",
        "update_named_expressions",
        "check_for_new_objective",
        "update_objective",
    ):
        if hasattr(config, check):
            setattr(config, check, False)
    witness = Witness(highs._solver_model)
    try:
        with _quiet():
            return highs.solve(built.model)
    except KeyboardInterrupt:
        if math.isfinite(witness.bound):
            search.tighten(witness.bound / built.objective_scale + model.constant_value)
        if witness.columns is not None:
            place = highs._pyomo_var_to_solver_var_map
            values = np.array(
                [0.0 if b.fixed else witness.columns[place[id(b)]] for b in built.binaries]
            )
            search.offer(model, built.largest(values))
        raise


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Pyomo from logging that HiGHS was interrupted; the status says so."""
    logger = logging.getLogger("pyomo.contrib.appsi")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


class Linearization:
    """The Pyomo model and how its variables map to options."""

    def __init__(self, model: object, binaries: list, offsets: np.ndarray, scale: float) -> None:
        self.model = model
        self.binaries = binaries
        self.offsets = offsets
        self.objective_scale = scale
        self.entries: list[tuple[list, tuple[int, ...], np.ndarray]] = []

    def choice(self, highs: Any) -> list[int] | None:
        """The options whose binaries are largest in HiGHS's last solution, if it has one."""
        open_ones = [b for b in self.binaries if not b.fixed]
        try:
            found = highs.get_primals(open_ones)
        except RuntimeError:
            return None
        values = np.array([0.0 if b.fixed else found[b] for b in self.binaries])
        if not np.isfinite(values).all():
            return None
        return self.largest(values)

    def largest(self, values: np.ndarray) -> list[int]:
        """For every variable the option with the largest of ``values`` [options]."""
        return [int(np.argmax(values[a:b])) for a, b in zip(self.offsets[:-1], self.offsets[1:])]

    def warm_start(self, choice: list[int]) -> None:
        """Set every variable to what ``choice`` makes it."""
        picked = {int(o) + c for o, c in zip(self.offsets[:-1], choice)}
        for i, binary in enumerate(self.binaries):
            binary.value = 1.0 if i in picked else 0.0
        for columns, scope, flat in self.entries:
            shape = tuple(int(self.offsets[v + 1] - self.offsets[v]) for v in scope)
            one = np.ravel_multi_index(tuple(choice[v] for v in scope), shape)
            for column, index in zip(columns, flat):
                column.value = 1.0 if index == one else 0.0


def _build(pyo: object, model: Model, search: Search) -> Linearization:
    from pyomo.environ import (
        Binary,
        ConcreteModel,
        ConstraintList,
        NonNegativeReals,
        Objective,
        Var,
        maximize,
    )

    offsets = np.concatenate(([0], np.cumsum(model.sizes)))
    live = [np.flatnonzero(np.isfinite(f.value.ravel())) for f in model.factors]
    wide = sum(len(i) for i, f in zip(live, model.factors) if len(f.scope) > 1)
    program = ConcreteModel()
    program.option = Var(range(int(offsets[-1])), domain=Binary)
    program.entry = Var(range(wide), domain=NonNegativeReals)
    program.rows = ConstraintList()
    binaries = list(program.option.values())
    entries = list(program.entry.values())
    span, reach = _reach(model)[1], _cost_reach(model)
    scale = OBJECTIVE_RANGE / span if span > 0 else 1.0
    scale = 2.0 ** round(math.log2(scale))
    built = Linearization(program, binaries, offsets, scale)
    objective: tuple[list, list] = ([], [])
    spending: list[tuple[list, list]] = [([], []) for _ in model.budgets]
    cost_scale = [BUDGET_RANGE / x if x > 0 else 1.0 for x in reach]
    taken = 0
    for v in range(len(model.sizes)):
        mine = binaries[offsets[v] : offsets[v + 1]]
        program.rows.add((1.0, _linear([1.0] * len(mine), mine), 1.0))
    for factor, flat in zip(model.factors, live):
        search.check()
        if len(factor.scope) == 1:
            v = factor.scope[0]
            columns = [binaries[offsets[v] + i] for i in flat]
            for i in sorted(set(range(model.sizes[v])) - set(flat.tolist())):
                binaries[offsets[v] + i].fix(0)
        else:
            columns = entries[taken : taken + len(flat)]
            taken += len(flat)
            built.entries.append((columns, factor.scope, flat))
            _marginals(program, binaries, offsets, factor, flat, columns)
        _extend(objective, scale * factor.value.ravel()[flat], columns)
        for r, cost in enumerate(factor.cost):
            if cost is not None:
                _extend(spending[r], cost_scale[r] * cost.ravel()[flat], columns)
    for r, (coefficients, columns) in enumerate(spending):
        if columns:
            room = float(cost_scale[r] * (model.slack[r] + 0.5 * model.tolerances[r]))
            program.rows.add((None, _linear(coefficients, columns), room))
        elif model.slack[r] + model.tolerances[r] < 0:
            search.tighten(search.value)  # nothing costs here, and the constants are too dear
    program.value = Objective(expr=_linear(*objective), sense=maximize)
    return built


def _marginals(program, binaries, offsets, factor, flat, columns) -> None:
    """The entries of each option sum to the option's binary, for every variable of the scope."""
    index = np.unravel_index(flat, factor.value.shape)
    for v, options in zip(factor.scope, index):
        order = np.argsort(options, kind="stable")
        cuts = np.searchsorted(options[order], np.arange(offsets[v + 1] - offsets[v] + 1))
        for option, (a, b) in enumerate(zip(cuts[:-1], cuts[1:])):
            group = [columns[i] for i in order[a:b]]
            binary = binaries[offsets[v] + option]
            program.rows.add((0.0, _linear([1.0] * len(group) + [-1.0], [*group, binary]), 0.0))


def _linear(coefficients: list, columns: list) -> object:
    from pyomo.core.expr.numeric_expr import LinearExpression

    return LinearExpression(constant=0.0, linear_coefs=coefficients, linear_vars=columns)


def _extend(target: tuple[list, list], coefficients: np.ndarray, columns: list) -> None:
    for coefficient, column in zip(coefficients.tolist(), columns):
        if coefficient:
            target[0].append(coefficient)
            target[1].append(column)


def _reach(model: Model) -> tuple[float, float]:
    """Largest conceivable value of the factors, and the sum of their ranges."""
    top = span = 0.0
    for factor in model.factors:
        finite = factor.value[np.isfinite(factor.value)]
        if finite.size:
            top += float(finite.max())
            span += float(finite.max() - finite.min())
    return top, span


def _cost_reach(model: Model) -> list[float]:
    reach = [0.0] * len(model.budgets)
    for factor in model.factors:
        for r, cost in enumerate(factor.cost):
            if cost is not None:
                reach[r] += float(np.abs(cost).max())
    return reach


def _absolute_gap(search: Search, scale: float) -> float:
    if search.gap <= 0 or search.choice is None:
        return 0.0
    units = search.model.units
    return search.gap * abs(units.value(search.value)) / units.value_unit * scale


def _start(search: Search, model: Model) -> list[int] | None:
    """The incumbent as a choice of the restriction's variables, if it lies in it."""
    if search.choice is None:
        return None
    choice = []
    for position, keep in zip(model.variables, model.keep):
        at = np.flatnonzero(keep == search.choice[position])
        if not at.size:
            return None
        choice.append(int(at[0]))
    value, _ = model.evaluate(choice)
    same = all(
        model.fixed[p] == search.choice[p]
        for p in set(range(len(model.fixed))) - set(model.variables)
    )
    return choice if same and value > -math.inf else None
