"""Best-first search over ranges of the variables that touch most tables, for several budgets.

The prices of the whole problem bound it by a mixture of choices that differ in everything. With the
widths of residual streams in narrower ranges, every part has prices of its own, and the largest of
the parts' bounds is far below (branch and bound with Lagrangian bounds; Geoffrion 1974). Where the
mixture wavers between alike blocks, their number is branched on (:mod:`~solver.counts`). What is
small is closed by labels.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from .counts import group_alike, limit_count
from .methods.lagrangian import build_bucket_tree
from .model import Model
from .outlook import look_out
from .polish import polish
from .reduction import reduce
from .relaxation import Pool, Vertex, minimize_by_cuts
from .search import EPSILON, OutOfTime, Search

#: Entries up to which a part is tried by labels, and the seconds of the first try.
SMALL, SECONDS = 20_000, 1.0
#: Choices of a part that its halves start from.
CHOICES = 40
#: Weights that waver by less than this are rounding.
WAVER = 1e-6

Close = Callable[[Search, list[int]], None]


@dataclass(eq=False)
class Part:
    """A part of what is open: its model, a bound, and its relaxation.

    ``choices`` [n, variables] are complete ones that the relaxation has met, the first of them with
    positive ``weights``. ``tries`` counts attempts by labels.
    """

    model: Model
    bound: float
    prices: np.ndarray
    choices: np.ndarray
    weights: np.ndarray
    tries: int = 0


def branch(search: Search, model: Model, prices: np.ndarray, close: Close) -> Iterator[int]:
    """Branch until the optimum is proven; yields the number of each part.

    Args:
        search: Takes incumbents and bounds; its deadline holds.
        model: What is open.
        prices: Multipliers to start from.
        close: Proves a part of the search.
    """
    groups = group_alike(search.model)
    reach = _count_neighbours(search.model)
    first = _relax(search, model, prices, np.zeros((0, len(search.problem.options)), int), math.inf)
    if first is None:
        search.tighten(search.value)
        return
    heap = [(-first.bound, 0, first)]
    number = 0
    while heap:
        part = heapq.heappop(heap)[2]
        search.tighten(max(part.bound, search.value))
        search.report("branching")
        if search.done:
            return
        yield number
        found: list[Part | None]
        split = _find_split(part, groups, reach)
        if (split is None or part.model.entries <= SMALL) and not part.tries % 2:
            found = [_try_labels(search, part, close)]
        else:
            found = [
                _relax(search, half, prices, part.choices, part.bound)
                for half, prices in _halve(part, split)
            ]
        for one in found:
            if one is not None:
                number += 1
                heapq.heappush(heap, (-one.bound, number, one))
    search.tighten(search.value)


def _count_neighbours(model: Model) -> dict[int, int]:
    """Return with how many others each variable shares tables, by position in the problem."""
    neighbours: list[set[int]] = [set() for _ in model.sizes]
    for factor in model.factors:
        for v in factor.scope:
            neighbours[v].update(factor.scope)
    return {p: len(around) for p, around in zip(model.variables, neighbours)}


def _relax(
    search: Search, model: Model, prices: np.ndarray, choices: np.ndarray, bound: float
) -> Part | None:
    """Bound and reduce a model; None where nothing in it beats the incumbent."""
    search.check()
    if model.constant_value == -math.inf:
        return None
    part = replace(search, model=model, whole=search, restricts=True, rival=None, notes=[])
    tree = build_bucket_tree(model, part)
    pool = Pool()
    for options in choices:
        choice = model.project(options)
        if choice is not None:
            value, cost = model.evaluate(choice)
            if value > -math.inf:
                vertex = Vertex(
                    value - model.constant_value, cost - model.constant_cost, tuple(choice)
                )
                pool.vertices.append(vertex)
    room = model.slack + model.tolerances
    dual = minimize_by_cuts(tree, part, pool, room, prices, overall=False)
    bound = min(bound, dual.bound + model.constant_value)
    polish(search, search.model)
    if bound <= search.value + EPSILON:
        return None
    smaller = reduce(tree, look_out(tree, dual.multipliers[None, :], part), search.value)
    if smaller is None:
        return None
    last = [v for v in pool.vertices[-CHOICES:]]
    met = [v for _, v in dual.mixture] + last
    return Part(
        smaller if smaller.entries < 0.9 * model.entries else model,
        bound,
        dual.multipliers,
        np.array([model.complete(v.choice) for v in met]),
        np.array([w for w, _ in dual.mixture]),
    )


_Split = tuple[tuple[int, ...], float]


def _find_split(part: Part, groups: list[tuple[int, ...]], reach: dict[int, int]) -> _Split | None:
    """Return positions whose options' sum is to be split, and where; None for nothing of reach."""
    weights = part.weights / part.weights.sum()
    choices = part.choices[: len(weights)]
    mean = weights @ choices
    waver = weights @ np.abs(choices - mean)
    open_ = [p for p in part.model.variables if waver[p] > WAVER]
    usual = float(np.median(list(reach.values())))
    far = [p for p in open_ if reach[p] >= 2 * usual]
    if far:
        p = max(far, key=lambda p: (reach[p], waver[p]))
        return (p,), float(mean[p])
    counts = []
    for group in groups:
        count = float(mean[list(group)].sum())
        fraction = abs(count - round(count))
        if fraction > WAVER:
            counts.append((fraction, group, count))
    if counts:
        _, group, count = max(counts)
        return group, count
    return None


def _halve(part: Part, split: _Split | None) -> Iterator[tuple[Model, np.ndarray]]:
    """Yield the two halves of a part, with multipliers to start from."""
    model = part.model
    if split is None:
        weights = part.weights / part.weights.sum()
        choices = part.choices[: len(weights)]
        mean = weights @ choices
        waver = weights @ np.abs(choices - mean)
        p = max(model.variables, key=lambda p: waver[p])
        keep = model.keep[model.variables.index(p)]
        at = mean[p] if waver[p] > WAVER else keep[(len(keep) - 1) // 2]
        split = ((p,), float(at))
    group, at = split
    if len(group) > 1:
        most = math.floor(at)
        yield limit_count(model, group, most, 1), np.append(part.prices, 0.0)
        yield limit_count(model, group, -most - 1, -1), np.append(part.prices, 0.0)
        return
    v = model.variables.index(group[0])
    low = model.keep[v] <= math.floor(at)
    for side in (low, ~low):
        if side.any():
            alive = [np.ones(n, dtype=bool) for n in model.sizes]
            alive[v] = side
            yield model.restrict(alive, [f.value for f in model.factors]), part.prices


def _try_labels(search: Search, part: Part, close: Close) -> Part | None:
    """Try to close a part by labels; return it with a smaller bound where time was too short."""
    until = time.perf_counter() + SECONDS * 4.0 ** (part.tries // 2)
    own = replace(
        search, model=part.model, bound=part.bound, deadline=min(search.deadline, until),
        whole=search, restricts=True, rival=None, notes=[],
    )  # fmt: skip
    try:
        close(own, np.flatnonzero(part.prices).tolist())
    except OutOfTime:
        pass
    search.check()
    if own.bound <= search.value + EPSILON or own.done:
        return None
    part.bound = min(part.bound, own.bound)
    part.tries += 1
    return part
