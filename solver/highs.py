"""HiGHS in a thread of its own: it can be watched, told of better choices, and stopped."""

from __future__ import annotations

import atexit
import math
import threading
from typing import Any

import numpy as np

from .errors import MissingSolverError
from .methods.linearization import Linearization, linearize
from .methods.silence import silence_stdout
from .model import Model
from .search import Search

_INFEASIBLE = ("kInfeasible", "kUnboundedOrInfeasible")
_RUNNING: set[HighsRun] = set()
_INCONSISTENT = "optimal, by a value that is not its bound"


class HighsRun:
    """One run of HiGHS on the linearization of a model, a restriction of a search's.

    Args:
        search: Its gap and deadline hold; not changed but by :meth:`exchange`.
        model: What HiGHS solves, with at least one variable.
        start: A choice of the model's variables to start from.

    Raises:
        MissingSolverError: highspy is missing.
    """

    def __init__(self, search: Search, model: Model, start: list[int] | None) -> None:
        try:
            import highspy
        except ImportError as error:
            raise MissingSolverError(
                f"method 'milp' needs highspy ({error}); pip install highspy"
            ) from None
        self.highspy = highspy
        with silence_stdout():  # HiGHS 1.16 greets from its constructor
            self._highs = [highspy.Highs(), highspy.Highs()]
        self.model, self.start = model, start
        self.seconds = search.remaining
        self.gap_units = _compute_absolute_gap(search)
        self.bound = math.inf  # scaled, constants included
        self.done = False
        self.failure: BaseException | None = None
        self.timed_out = False
        self._stop = False
        self._program: Linearization | None = None
        self._columns: np.ndarray | None = None
        # Python waits for other threads before `_stop_all` could ask this one to stop.
        self._thread = threading.Thread(target=self._work, daemon=True)
        _RUNNING.add(self)
        self._thread.start()

    def stop(self, seconds: float | None = 0.2) -> None:
        """Ask HiGHS to stop, and wait so long (None: to its end); it looks up at times."""
        self._stop = True
        self._thread.join(seconds)

    def wait(self, seconds: float) -> bool:
        """Wait so long at most; return whether HiGHS has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def exchange(self, search: Search) -> None:
        """Hand what HiGHS has found and proven to the search."""
        columns, self._columns = self._columns, None
        if columns is not None:
            assert self._program is not None
            search.offer(self.model, self._program.pick_largest(columns))
        bound = self.bound
        if self.done and math.isfinite(bound):
            # HiGHS works to absolute tolerances; what is left below them is its rounding.
            bound -= 1e-9 * max(1.0, abs(bound)) if search.gap == 0.0 else 0.0
        if bound < math.inf:
            search.tighten(max(bound, search.value))

    def _work(self) -> None:
        try:
            program = self._program = linearize(self.model)
            if self._stop:
                return
            status = self._solve(program, presolve=True)
            if status in (*_INFEASIBLE, _INCONSISTENT):
                # HiGHS's presolve is known to call some feasible programs infeasible (HiGHS issues
                # 2204, 3296), and hands some start back as optimal with a bound that is not its
                # value; random tests of this package meet both. Only the search is believed.
                self.start = None
                status = self._solve(program, presolve=False)
            if status in _INFEASIBLE:
                self.bound, self.done = -math.inf, True
            self.timed_out = status == "kTimeLimit"
        except BaseException as error:  # told to the thread that waits
            self.failure = error
        finally:
            _RUNNING.discard(self)

    def _solve(self, program: Linearization, presolve: bool) -> str:
        """Run HiGHS once; return its status."""
        highs = self._create(program, presolve)
        scale, constant = program.objective_scale, self.model.constant_value
        if self.start is not None:
            solution = self.highspy.HighsSolution()
            solution.col_value = program.write_choice(self.start).tolist()
            highs.setSolution(solution)

        def improve(event: Any) -> None:
            self._columns = np.array(event.data_out.mip_solution)

        def watch(event: Any) -> None:
            bound = event.data_out.mip_dual_bound
            if math.isfinite(bound):
                self.bound = min(self.bound, bound / scale + constant)
            if self._stop:
                event.interrupt()

        def watch_root(event: Any) -> None:
            if self._stop:
                event.interrupt()

        highs.cbMipImprovingSolution += improve
        highs.cbMipInterrupt += watch
        highs.cbSimplexInterrupt += watch_root
        highs.cbIpmInterrupt += watch_root
        highs.run()
        status = highs.getModelStatus().name
        info = highs.getInfo()
        if status == "kOptimal":
            value = float(program.objective @ np.array(highs.getSolution().col_value))
            allowed = max(1e-6 * max(1.0, abs(value)), self.gap_units * scale)
            if not abs(info.mip_dual_bound - value) <= 2 * allowed:
                self.bound = math.inf
                return _INCONSISTENT
        if status == "kOptimal" and not self._stop:
            self._columns = np.array(highs.getSolution().col_value)
            self.done = True
        if math.isfinite(info.mip_dual_bound) and status != "kInfeasible":
            self.bound = min(self.bound, info.mip_dual_bound / scale + constant)
        return status

    def _create(self, program: Linearization, presolve: bool) -> Any:
        """Return HiGHS with the program and its options."""
        from scipy.sparse import csc_matrix

        highspy = self.highspy
        highs = self._highs.pop()
        highs.silent()
        options = {
            "output_flag": False,
            "mip_rel_gap": 0.0,
            "mip_abs_gap": self.gap_units * program.objective_scale,
            "mip_feasibility_tolerance": 1e-9,
            "primal_feasibility_tolerance": 1e-9,
            "dual_feasibility_tolerance": 1e-9,
            "threads": 1,
            "time_limit": max(self.seconds, 0.01),
            "presolve": "choose" if presolve else "off",
        }
        for name, value in options.items():
            highs.setOptionValue(name, value)
        count, rows = len(program.objective), len(program.row_lower)
        at = (np.concatenate(program.rows), np.concatenate(program.columns))
        matrix = csc_matrix((np.concatenate(program.coefficients), at), shape=(rows, count))
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = count, rows
        lp.sense_ = highspy.ObjSense.kMaximize
        lp.col_cost_, lp.col_lower_ = program.objective, np.zeros(count)
        binary = np.arange(count) < program.offsets[-1]
        lp.col_upper_ = np.where(binary, program.upper, math.inf)
        lp.row_lower_, lp.row_upper_ = np.array(program.row_lower), np.array(program.row_upper)
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.start_, lp.a_matrix_.index_ = matrix.indptr, matrix.indices
        lp.a_matrix_.value_ = matrix.data
        kinds = highspy.HighsVarType
        lp.integrality_ = [kinds.kInteger if b else kinds.kContinuous for b in binary.tolist()]
        highs.passModel(lp)
        return highs


def _compute_absolute_gap(search: Search) -> float:
    """Return the gap that was asked for in scaled units."""
    if search.gap <= 0 or search.choice is None:
        return 0.0
    units = search.model.units
    return search.gap * abs(units.unscale_value(search.value)) / units.value_unit


@atexit.register
def _stop_all() -> None:
    """Stop what is still running and wait for it: HiGHS aborts a process that ends before it does.

    It has a time limit of its own, so that this takes no longer than the solve might have.
    """
    for run in list(_RUNNING):
        run.stop(None)
