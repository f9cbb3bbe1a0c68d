"""Branch and bound over what the relaxation and one enumeration leave open.

A node is a restriction of the problem. Its own multipliers bound it more tightly than the common
ones (other widths of a residual stream have another price of time), max-marginals shrink it, and an
enumeration closes it if its window is small. Where not, the variable on which the relaxation
wavers is cut in two. Best bound first, so that the bound of the search is the next node's.
"""

import heapq
import itertools
import math
from collections import Counter

import numpy as np

from .labels import TooManyLabels, enumerate_window
from .model import Model
from .reduction import reduce
from .relaxation import Dual, minimize
from .search import EPSILON, Search
from .tree import BucketTree, TreeTooLarge

#: Two completions closer than this (scaled) make the relaxation waver between their options.
WAVER = 1e-7


def close_window(
    search: Search, tree: BucketTree, dual: Dual, limit: int, top: bool = False
) -> float:
    """Enumerate windows below the dual's bound, each wider than the last.

    A narrow window costs little and, when empty, is itself a proof of a smaller bound.

    Args:
        search: Takes what is found.
        tree: Exact, with max-marginals at the dual's multipliers.
        dual: Its bound is where the windows start.
        limit: Labels that may be held.
        top: Whether the tree covers all that is open, so that its bound is the search's.

    Returns:
        A bound on what the tree's model holds; at most the incumbent's value where it is closed.
    """
    bound = dual.bound
    # No loss against the relaxation can exceed this: values and costs are scaled to ranges of 1.
    everything = 4.0 * (1.0 + float(dual.multipliers.sum()))
    width = 1e-5
    if search.choice is not None:
        everything = max(bound - search.value, EPSILON)
        width = everything / 64
    proven = bound
    while True:
        width = everything if width > 0.5 * everything else width
        threshold = bound - width
        try:
            choice = enumerate_window(tree, dual.multipliers, threshold + EPSILON, search, limit)
        except TooManyLabels:
            return proven
        if choice is not None:
            search.offer(tree.model, choice)
        whole = width >= everything or search.value >= threshold
        proven = search.value if whole else threshold
        if top:
            search.tighten(max(proven, search.value))
        search.report("enumeration")
        if whole or search.done:
            return proven
        width *= 4


def branch(search: Search, model: Model, tree: BucketTree, dual: Dual, limit: int) -> bool:
    """Search below ``model`` by branch and bound, which ends the search.

    Args:
        search: Takes incumbents and bounds; its deadline holds.
        model: What is open.
        tree: Its tree, with max-marginals at the dual's multipliers.
        dual: Its relaxation.
        limit: Labels that a node's enumeration may hold.

    Returns:
        Whether the search came to its end; not where a tree grew too large.
    """
    ticket = itertools.count()
    nodes: list[tuple[float, int, Model, np.ndarray]] = []
    visited = 0

    def push_halves(model: Model, tree: BucketTree, bound: float, multipliers: np.ndarray) -> None:
        for half in _halve(model, tree):
            heapq.heappush(nodes, (-bound, next(ticket), half, multipliers))

    push_halves(model, tree, search.bound, dual.multipliers)
    while nodes:
        bound, _, model, start = heapq.heappop(nodes)
        search.tighten(max(-bound, search.value))
        search.report("branching")
        if search.done:
            break
        visited += 1
        inherited = -bound
        while True:
            search.check()
            try:
                tree = BucketTree(model, search.entries_limit, search.check)
            except TreeTooLarge:
                return False
            dual = minimize(tree, search, start, overall=False)
            if dual.bound <= search.value + EPSILON:
                break
            tree.forward(dual.multipliers)
            tree.backward()
            smaller = reduce(tree, dual.multipliers, search.value)
            if smaller is None:
                break
            if smaller.entries > 0.7 * model.entries:
                left = min(close_window(search, tree, dual, limit), inherited)
                if left > search.value + EPSILON:
                    push_halves(model, tree, left, dual.multipliers)
                break
            model, start = smaller, dual.multipliers
    else:
        search.tighten(search.value)
    search.notes.append(f"branching: {visited:,} nodes")
    return True


def _halve(model: Model, tree: BucketTree) -> list[Model]:
    """Cut the options of the variable on which the relaxation wavers most in two."""
    held = Counter(v for factor in model.factors for v in factor.scope)
    best: tuple[tuple[float, float], int, np.ndarray] | None = None
    for bucket in tree.buckets:
        mine = bucket.array.max(axis=tuple(range(1, bucket.array.ndim)))
        order = np.argsort(-mine, kind="stable")
        lead = float(mine[order[0]] - mine[order[1]])
        weight = held[bucket.variable] * math.log(len(mine))
        # Wavering variables first, the most connected of them; otherwise the closest decision.
        key = (0.0, -weight) if lead <= WAVER else (lead, -weight)
        if best is None or key < best[0]:
            best = (key, bucket.variable, order)
    assert best is not None
    _, variable, order = best
    low = sorted(order[:2])
    cut = (int(low[0]) + int(low[1])) // 2 + 1
    halves = []
    for part in (slice(0, cut), slice(cut, None)):
        alive = [np.ones(n, dtype=bool) for n in model.sizes]
        alive[variable][:] = False
        alive[variable][part] = True
        halves.append(model.restrict(alive, [f.value for f in model.factors]))
    return halves
