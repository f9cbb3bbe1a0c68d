"""The core of what is open: the entries whose choices may come closest to the bound.

No choice outside of it is worth more than a floor that is known when it is chosen, so that a core's
optimum above the floor is the problem's (Balas & Zemel, *An algorithm for large zero-one knapsack
problems*, Operations Research 28, 1980). With several budgets the relaxation's own choices are far
from the optimum; those of a small core are not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from .methods.lagrangian import solve_lagrangian
from .model import Model
from .outlook import Outlook
from .reduction import reduce
from .relaxation import Dual
from .search import OutOfTime, Search
from .tree import BucketTree

#: Entries of a core, and the share of the time left that it may take.
ENTRIES, SHARE = 5_000, 0.1

_Close = Callable[[Search, Model, BucketTree, Dual], Iterable[int]]


def search_core(search: Search, tree: BucketTree, outlook: Outlook, close: _Close) -> None:
    """Solve the core of what is open by ``close``, for a better incumbent or more."""
    core, floor = select_core(search, tree, outlook, ENTRIES)
    if core is None:
        return
    now = time.perf_counter()
    until = min(search.deadline, now + SHARE * search.remaining)
    part = replace(search, model=core, deadline=until, progress=None, whole=None, rival=None)
    part.notes = []
    try:
        rest = solve_lagrangian(part)
        if rest is not None and not part.done:
            for _ in close(part, rest.model, rest.tree, rest.dual):
                pass
    except OutOfTime:
        pass
    finally:
        if part.choice is not None:
            search.offer_complete(part.choice)
        search.tighten(max(part.bound, floor, search.value))
    search.check()


def select_core(
    search: Search, tree: BucketTree, outlook: Outlook, entries: int
) -> tuple[Model | None, float]:
    """Return about so many entries of the largest bounds, and what choices elsewhere are worth.

    The model is None where no more than that are open, or no part of them holds a choice.
    """
    bounds = [outlook.views[id(bucket)].bound.min(axis=0) for bucket in tree.buckets]
    every = np.concatenate(bounds)
    if len(every) <= entries:
        return None, search.value
    floor = float(np.partition(every, len(every) - entries)[len(every) - entries])
    floor = max(floor, search.value)
    return reduce(tree, outlook, floor), floor
