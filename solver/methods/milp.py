"""The exact linearization, solved by HiGHS through Pyomo."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import MissingSolverError
from ..model import Model
from ..search import OutOfTime, Search
from .linearization import Linearization, linearize, reach
from .quiet import quiet


def milp(search: Search) -> None:
    """Solve the whole problem as one mixed-integer program."""
    milp_rest(search, search.model)


def milp_rest(search: Search, model: Model) -> None:
    """Solve what a restriction leaves, warm-started with the incumbent where it lies in it."""
    if model.constant_value == -math.inf:
        search.tighten(search.value)
        return
    total, _ = reach(model)
    search.tighten(model.constant_value + total)
    if not model.sizes:
        search.offer(model, [])
        search.tighten(search.value)
        return
    try:
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
    built = linearize(model, search)
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
        search.check()  # building the model takes seconds
        with quiet("pyomo.contrib.appsi"):
            results = highs.solve(built.model)
        if (
            search.interrupted
        ):  # highspy takes them for itself, and from 1.16 on returns as if of an error
            raise KeyboardInterrupt
        return results
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
