"""The exact linearization, solved by HiGHS."""

from ..highs import HighsRun
from ..model import Model
from ..search import OutOfTime, Search
from .linearization import measure_reach


def solve_milp(search: Search) -> None:
    """Solve the whole problem as one mixed-integer program."""
    solve_remainder(search, search.model)


def solve_remainder(search: Search, model: Model) -> None:
    """Solve what a restriction leaves, warm-started with the incumbent where it lies in it.

    Raises:
        MissingSolverError: highspy is missing.
        OutOfTime: HiGHS met the deadline; the search holds what it found.
    """
    if model.constant_value == float("-inf"):
        search.tighten(search.value)
        return
    total, _ = measure_reach(model)
    search.tighten(model.constant_value + total)
    if not model.sizes:
        search.offer(model, [])
        search.tighten(search.value)
        return
    search.check()
    run = HighsRun(search, model, restrict_incumbent(search, model))
    search.report("mixed-integer program: HiGHS")
    try:
        while not run.wait(0.05):
            run.exchange(search)
            search.check()
    finally:
        run.stop()
        run.exchange(search)
    if run.failure is not None:
        raise run.failure
    search.report("mixed-integer program: done")
    if run.timed_out:
        raise OutOfTime


def restrict_incumbent(search: Search, model: Model) -> list[int] | None:
    """Return the incumbent as a choice of the restriction's variables, if it lies in it."""
    if search.choice is None:
        return None
    choice = model.project(search.choice)
    inside = choice is not None and model.evaluate(choice)[0] > -float("inf")
    return choice if inside else None
