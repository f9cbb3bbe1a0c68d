"""Passes of labels over what the relaxation leaves open, until incumbent and bound meet.

A pass looks for choices above a floor a little below the bound: a narrow window costs little, and
when empty is itself a proof of a smaller bound. Windows widen until the optimum is in one. Where a
window holds too many labels, a pass that looks for a better incumbent comes first, then wider
beams under finer guides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from .core import search_core
from .labels import Beam
from .model import Model
from .outlook import Outlook, look_out, spread_multipliers
from .polish import polish
from .reduction import reduce
from .relaxation import Dual, minimize
from .search import EPSILON, Search
from .tree import BucketTree

#: Labels that the first passes may hold, and how many times more the later ones, at most.
WIDTH, WIDER, WIDEST = 8_000, 8, 512_000
#: Seconds of the first guides, and by what later ones take longer.
SECONDS, FINER = 0.1, 2.0
#: The first window, of scaled value, where there is no incumbent.
WINDOW = 1e-3
#: No choice has a smaller scaled value: the tables' ranges together are at most one.
LOWEST = -2.0
#: Multipliers looked at, as far as memory allows.
MULTIPLIERS = 9


def close_by_labels(search: Search, model: Model, tree: BucketTree, dual: Dual) -> Iterator[int]:
    """Search what is open until the optimum is proven; yields the number of each pass.

    Args:
        search: Takes incumbents and bounds; its deadline holds.
        model: What is open.
        tree: Its tree, exact.
        dual: Its relaxation.
    """
    outlook = _look_around(search, tree, dual)
    if len(model.budgets) > 1:
        search_core(search, tree, outlook, close_by_labels)
    width, seconds, window = WIDTH, SECONDS, WINDOW
    if search.choice is not None:
        window = max((search.bound - search.value) / 64, EPSILON)
    number = 0
    while not search.done:
        if number:
            yield number
        number += 1
        before = search.value
        lowest = max(search.value + EPSILON, LOWEST)
        floor = max(lowest, search.bound - window)
        beam = Beam(tree, outlook, search, floor, width, seconds)
        _offer(search, tree, beam.run())
        # What beats the incumbent and was not dropped lies above the floor, and was found.
        search.tighten(max(beam.dropped, search.value, -math.inf if floor == lowest else floor))
        search.report("enumeration")
        if search.done:
            return
        if beam.dropped > floor:
            beam = Beam(tree, outlook, search, floor, width // 4, seconds, pessimistic=True)
            _offer(search, tree, beam.run())
            search.report("enumeration")
            width, seconds = min(width * WIDER, WIDEST), seconds * FINER
        if search.value == before:
            window *= 4
            continue
        window = max(0.5 * (search.bound - search.value), EPSILON)
        smaller = reduce(tree, outlook, search.value)
        if smaller is None:
            search.tighten(search.value)
            return
        if smaller.entries < 0.5 * model.entries:
            model = smaller
            tree = BucketTree(model, search.entries_limit, search.check)
            dual = minimize(tree, search, dual.multipliers)
            search.tighten(max(dual.bound, search.value))
            if dual.bound == -math.inf:
                return
        outlook = _look_around(search, tree, dual)


def _offer(search: Search, tree: BucketTree, choice: list[int] | None) -> None:
    """Offer a choice to the search, if there is one."""
    if choice is not None and search.offer(tree.model, choice):
        polish(search, tree.model)


def _look_around(search: Search, tree: BucketTree, dual: Dual) -> Outlook:
    """Bound completions at as many multipliers as memory allows."""
    entries = sum(b.array.size for b in tree.buckets)
    count = max(1, min(MULTIPLIERS, search.entries_limit // max(entries, 1)))
    return look_out(tree, spread_multipliers(dual.multipliers, count), search)
