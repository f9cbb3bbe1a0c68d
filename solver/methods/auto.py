"""The default: relaxation and reduction, labels inside the gap or in parts of it, HiGHS beside."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..beaming import close_by_labels
from ..binding import solve_binding
from ..branching import branch
from ..errors import MissingSolverError
from ..highs import HighsRun
from ..model import Model
from ..relaxation import Pool
from ..search import Search, Settled
from ..tree import BucketTree
from .lagrangian import solve_lagrangian
from .milp import restrict_incumbent, solve_remainder

#: Table entries up to which HiGHS runs along: it takes up to eight kilobytes for each.
MOST_ENTRIES = 100_000


def solve_auto(search: Search, tree: BucketTree | None = None, pool: Pool | None = None) -> None:
    """Prove the optimum; arguments as in :func:`~solver.methods.lagrangian.solve_lagrangian`."""
    if len(search.model.budgets) > 1:
        solve_binding(search, _prove)
    else:
        _prove(search, tree, pool)


def _prove(search: Search, tree: BucketTree | None = None, pool: Pool | None = None) -> None:
    """Prove the optimum under all budgets at once."""
    rest = solve_lagrangian(search, tree, pool)
    if rest is None or search.done:
        return
    if not rest.exact:
        solve_remainder(search, rest.model)
        return
    model = rest.model
    if len(model.budgets) > 1:
        passes = branch(search, model, rest.dual.multipliers, _close_part)
    else:
        passes = close_by_labels(search, model, rest.tree, rest.dual)
    del rest, tree
    # Most problems end in the first pass; a rival only comes in where they do not.
    if next(passes, None) is None:
        return
    with _race(search, model), suppress(Settled):
        for _ in passes:
            pass


def _close_part(search: Search, active: list[int]) -> None:
    """Close a part of what is open by labels, under the ``active`` budgets first."""
    solve_binding(search, _exhaust_labels, active)


def _exhaust_labels(search: Search) -> None:
    """Relax, reduce, and let labels prove the optimum, where nothing is split."""
    rest = solve_lagrangian(search)
    if rest is not None and rest.exact and not search.done:
        for _ in close_by_labels(search, rest.model, rest.tree, rest.dual):
            pass


@contextmanager
def _race(search: Search, model: Model) -> Iterator[None]:
    """Let HiGHS work on ``model`` beside what is done within, on a core of its own."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if (cores or 1) < 2 or model.entries > MOST_ENTRIES or not model.sizes:
        yield
        return
    try:
        run = HighsRun(search, model, restrict_incumbent(search, model))
    except MissingSolverError:
        yield
        return
    search.rival = run
    try:
        yield
    finally:
        search.rival = None
        run.stop()
        run.exchange(search)
