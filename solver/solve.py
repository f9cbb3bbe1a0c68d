"""``solve``: check the input, run a method on a search, and turn its state into a solution."""

import math
import time
from collections.abc import Callable, Mapping

import numpy as np

from .errors import MethodError, ProblemError
from .infeasible import diagnose
from .methods.auto import solve_auto
from .methods.brute_force import solve_brute_force
from .methods.knapsack import solve_knapsack
from .methods.lagrangian import solve_lagrangian
from .methods.milp import solve_milp
from .methods.mindtpy import solve_mindtpy
from .problem import Problem
from .search import Search, SolveProgress
from .solution import Solution, Status, compute_gap

#: Entries of all elimination tables together when nothing else is asked for (8 bytes each).
MEMORY_LIMIT_MB = 400.0


def solve(
    problem: Problem,
    method: str = "auto",
    budgets: Mapping[str, float] | None = None,
    gap: float = 0.0,
    time_limit_s: float = 60.0,
    progress: Callable[[SolveProgress], None] | None = None,
    memory_limit_mb: float = MEMORY_LIMIT_MB,
) -> Solution:
    """Find the most valuable choice within the budgets, and prove it.

    Args:
        problem: What to solve; not changed.
        method: ``auto`` (Lagrangian relaxation by variable elimination, reduction by max-marginals,
            branching where there are several budgets, labels inside the remaining gap, HiGHS beside
            them), ``milp`` (exact linearization, HiGHS), ``lagrangian`` (bound and incumbent only),
            ``mindtpy`` (the published outer approximation), ``knapsack`` (costs at frozen widths; a
            baseline) or ``brute_force`` (every choice; an oracle for small problems).
        budgets: Replaces the problem's budgets.
        gap: Relative gap (bound - value) / |bound| at which to stop; 0 proves the optimum, to
            rounding.
        time_limit_s: Wall seconds after which the best choice so far comes back with its bound.
        progress: Called with a :class:`~solver.SolveProgress` now and then, from this thread.
        memory_limit_mb: Limit on the tables of the variable elimination. Where they would be
            larger, variables are split (a weaker bound) and the mixed-integer program closes
            the gap; the solution's notes say so.

    Returns:
        The solution. A budget counts as kept up to one part in 10^9. An interrupt (SIGINT) ends
        the solve and hands back the incumbent.

    Raises:
        SolverError: Misuse: an unknown method, a malformed budget, a missing solver.
    """
    _check_arguments(problem, method, gap, time_limit_s)
    limits = dict(problem.budgets) if budgets is None else problem.check_budgets(budgets)
    search = Search.start(problem, limits, float(gap), time_limit_s, memory_limit_mb, progress)
    stopped = search.run(_RUN[method])
    return conclude(search, method, stopped)


_RUN: dict[str, Callable[[Search], object]] = {
    "auto": solve_auto,
    "milp": solve_milp,
    "lagrangian": solve_lagrangian,
    "mindtpy": solve_mindtpy,
    "knapsack": lambda search: solve_knapsack(search, solve),
    "brute_force": solve_brute_force,
}
#: The methods of :func:`solve`.
METHODS = tuple(_RUN)


def _check_arguments(problem: Problem, method: str, gap: float, time_limit_s: float) -> None:
    """Refuse misuse of :func:`solve`."""
    if not isinstance(problem, Problem):
        raise ProblemError(f"solve takes a solver.Problem, not {type(problem).__name__}")
    if method not in METHODS:
        raise MethodError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    if not (isinstance(gap, (int, float)) and 0 <= gap < math.inf):
        raise MethodError(f"gap must be a number of at least 0, not {gap!r}")
    if not (isinstance(time_limit_s, (int, float)) and time_limit_s > 0):
        raise MethodError(f"time_limit_s must be a positive number, not {time_limit_s!r}")


def conclude(search: Search, method: str, stopped: Status | None) -> Solution:
    """Turn what ``method`` left, or what ``stopped`` it, into a solution in the problem's units."""
    problem, units = search.problem, search.model.units
    choice: dict[str, int] | None = None
    value = -math.inf
    cost: dict[str, float] = {}
    bound = units.unscale_value(search.bound) if math.isfinite(search.bound) else search.bound
    if search.choice is not None:
        choice = {v: int(o) for v, o in zip(problem.options, search.choice)}
        value, cost = problem.evaluate(choice)
        if search.closed or bound < value:
            bound = value
    infeasibility = None
    if search.choice is None and search.bound == -math.inf:
        status = Status.INFEASIBLE
        infeasibility = diagnose(search, solve)
    elif search.closed:
        status = Status.OPTIMAL
    elif search.choice is not None and compute_gap(value, bound) <= search.gap:
        status = Status.WITHIN_GAP
    else:
        status = stopped or Status.UNPROVEN
    multipliers = np.zeros(0) if search.multipliers is None else search.multipliers
    return Solution(
        status=status,
        choice=choice,
        value=value,
        cost=cost,
        bound=bound,
        seconds=time.perf_counter() - search.started,
        method=method,
        budgets=dict(search.budgets),
        prices=units.unscale_prices(multipliers),
        notes=tuple(search.notes),
        infeasibility=infeasibility,
    )
