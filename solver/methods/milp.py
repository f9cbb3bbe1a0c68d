"""The exact linearization, solved by HiGHS through Pyomo."""

import math
from typing import Any

import numpy as np

from ..errors import MissingSolverError
from ..model import Model
from ..search import OutOfTime, Search
from .linearization import Linearization, linearize, measure_reach
from .silence import silence_logger

_INFEASIBLE = ("infeasible", "infeasibleOrUnbounded")


def solve_milp(search: Search) -> None:
    """Solve the whole problem as one mixed-integer program."""
    solve_remainder(search, search.model)


def solve_remainder(search: Search, model: Model) -> None:
    """Solve what a restriction leaves, warm-started with the incumbent where it lies in it.

    Raises:
        MissingSolverError: Pyomo or HiGHS is missing.
        OutOfTime: HiGHS met the deadline; the search holds what it found.
    """
    if model.constant_value == -math.inf:
        search.tighten(search.value)
        return
    total, _ = measure_reach(model)
    search.tighten(model.constant_value + total)
    if not model.sizes:
        search.offer(model, [])
        search.tighten(search.value)
        return
    highs = _create_highs()
    search.report("mixed-integer program: building")
    program = linearize(model, search)
    search.check()
    if search.bound == -math.inf:
        return
    start = _restrict_incumbent(search, model)
    if start is not None:
        program.warm_start(start)
    highs.config.load_solution = False
    highs.config.warmstart = start is not None
    highs.highs_options = {
        "mip_rel_gap": 0.0,
        "mip_abs_gap": _compute_absolute_gap(search, program.objective_scale),
        "mip_feasibility_tolerance": 1e-9,
        "primal_feasibility_tolerance": 1e-9,
        "dual_feasibility_tolerance": 1e-9,
        "threads": 1,
    }
    search.report("mixed-integer program: HiGHS")
    results = _run_highs(search, model, highs, program)
    bound = math.nan if results.best_objective_bound is None else results.best_objective_bound
    lost = results.termination_condition.name == "optimal" and math.isnan(bound)
    if lost or results.termination_condition.name in _INFEASIBLE:
        # HiGHS's presolve is known to call some feasible programs infeasible (HiGHS issues 2204,
        # 3296; one of this package's random tests meets it): only the search itself is believed.
        highs.highs_options = {**highs.highs_options, "presolve": "off"}
        results = _run_highs(search, model, highs, program)
    if results.termination_condition.name in _INFEASIBLE:
        search.tighten(search.value)
        return
    _take_results(search, model, highs, program, results)


def _create_highs() -> Any:
    """Return Pyomo's interface to HiGHS."""
    try:
        from pyomo.contrib.appsi.solvers import Highs
    except ImportError as error:
        raise MissingSolverError(
            f"method 'milp' needs pyomo and highspy ({error}); pip install pyomo highspy"
        ) from None
    highs = Highs()
    if not highs.available():
        raise MissingSolverError("method 'milp' needs HiGHS; pip install highspy")
    return highs


def _take_results(
    search: Search, model: Model, highs: Any, program: Linearization, results: Any
) -> None:
    """Hand HiGHS's choice and bound to the search."""
    choice = program.read_choice(highs)
    if choice is not None and not search.offer(model, choice) and search.choice is None:
        search.notes.append("HiGHS returned a choice that breaks a budget by rounding")
    condition, bound = results.termination_condition.name, results.best_objective_bound
    if bound is not None and math.isfinite(bound):
        scaled = bound / program.objective_scale + model.constant_value
        # HiGHS works to absolute tolerances; what is left below them is its rounding.
        proven = condition == "optimal" and search.gap == 0.0
        rounding = 1e-9 * max(1.0, abs(scaled)) if proven else 0.0
        search.tighten(max(scaled - rounding, search.value))
    search.report("mixed-integer program: done")
    if condition == "maxTimeLimit":
        raise OutOfTime


class Witness:
    """What HiGHS has found so far, should an interrupt make it forget.

    Subscribed to HiGHS's callbacks where this version of highspy has them; ``columns`` is its last
    improving solution, ``bound`` its last dual bound.
    """

    def __init__(self, engine: Any) -> None:
        self.columns: np.ndarray | None = None
        self.bound = math.inf
        if hasattr(engine, "cbMipImprovingSolution"):
            engine.cbMipImprovingSolution += self._record_solution
            engine.cbMipInterrupt += self._record_bound

    def _record_solution(self, event: Any) -> None:
        self.columns = np.array(event.data_out.mip_solution)

    def _record_bound(self, event: Any) -> None:
        if not math.isnan(event.data_out.mip_dual_bound):
            self.bound = float(event.data_out.mip_dual_bound)


def _run_highs(search: Search, model: Model, highs: Any, program: Linearization) -> Any:
    """Run HiGHS; on an interrupt, hand over what it had and let the interrupt pass."""
    highs.config.time_limit = max(search.remaining, 0.01)
    highs.set_instance(program.model)
    for name in highs.update_config:  # the program does not change from here on
        if name.startswith(("check_for_", "update_")):
            highs.update_config[name] = False
    witness = Witness(highs._solver_model)
    try:
        search.check()  # building the model takes seconds
        with silence_logger("pyomo.contrib.appsi"):
            results = highs.solve(program.model)
        # highspy takes interrupts for itself, and from 1.16 on returns as if of an error.
        if search.interrupted:
            raise KeyboardInterrupt
        return results
    except KeyboardInterrupt:
        if math.isfinite(witness.bound):
            search.tighten(witness.bound / program.objective_scale + model.constant_value)
        if witness.columns is not None:
            position = highs._pyomo_var_to_solver_var_map
            values = [
                0.0 if b.fixed else witness.columns[position[id(b)]] for b in program.binaries
            ]
            search.offer(model, program.pick_largest(np.array(values)))
        raise


def _compute_absolute_gap(search: Search, scale: float) -> float:
    """Return the gap that was asked for in units of the program's objective."""
    if search.gap <= 0 or search.choice is None:
        return 0.0
    units = search.model.units
    return search.gap * abs(units.unscale_value(search.value)) / units.value_unit * scale


def _restrict_incumbent(search: Search, model: Model) -> list[int] | None:
    """Return the incumbent as a choice of the restriction's variables, if it lies in it."""
    if search.choice is None:
        return None
    choice = model.project(search.choice)
    inside = choice is not None and model.evaluate(choice)[0] > -math.inf
    return choice if inside else None
