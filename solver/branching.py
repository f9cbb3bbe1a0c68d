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
from contextlib import suppress
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

#: Entries up to which a part is tried by labels whatever it wavers between.
SMALL = 20_000
#: Seconds of a first try by labels, and by what those of the halves of what it left are longer.
SECONDS, LONGER = 1.0, 2.0
#: How far from options that were met an incumbent is looked for, in options; of the 1st, 2nd, 4th,
#: 8th ... part.
NEAR = (0, 1)
#: Choices of a part that its halves start from.
CHOICES = 40
#: A variable that shares tables with so many times more others than usual is branched on first.
FAR = 2.0
#: Options that waver by less than this are rounding.
WAVER = 1e-6

#: Proves a part of the search, under the budgets of these numbers first.
Close = Callable[[Search, list[int]], None]


@dataclass(eq=False)
class Part:
    """A part of what is open: its model, a bound, and its relaxation.

    ``choices`` [n, variables] are complete ones that the relaxation has met, the first of them with
    positive ``weights``. ``seconds`` is what the next try by labels may take, ``tried`` whether
    there was one.
    """

    model: Model
    bound: float
    prices: np.ndarray
    choices: np.ndarray
    weights: np.ndarray
    seconds: float
    tried: bool = False

    def average(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the mixture's mean options [variables], and by how much they waver."""
        choices = self.choices[: len(self.weights)]
        mean = self.weights @ choices / self.weights.sum()
        return mean, self.weights @ np.abs(choices - mean)


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
    none = np.zeros((0, len(search.problem.options)), dtype=np.int64)
    whole = Part(model, search.bound, prices, none, np.zeros(0), SECONDS)
    first = _relax(search, whole, model, prices)
    heap = [] if first is None else [(-first.bound, 0, first)]
    gains: Gains = {}
    number = 0
    while heap:
        part = heapq.heappop(heap)[2]
        search.tighten(max(part.bound, search.value))
        search.report("branching")
        if search.done:
            return
        if number:
            yield number
        if part.model.entries > SMALL and number & (number - 1) == 0:
            for near in NEAR:
                _search_met(search, part, close, near)
        found: list[Part | None]
        split = _find_split(part, groups, reach, gains)
        if part.tried or (split is not None and part.model.entries > SMALL):
            split = split or _find_near_split(part)
            found = [_relax(search, part, half, start) for half, start in _halve(part, *split)]
            _note_gain(gains, split[0], part.bound, found, search.value)
        else:
            found = [_try_labels(search, part, close)]
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


def _relax(search: Search, part: Part, model: Model, prices: np.ndarray) -> Part | None:
    """Bound and reduce ``model``, some of a part; None where nothing in it beats the incumbent."""
    search.check()
    if model.constant_value == -math.inf:
        return None
    own = _restrict(search, model)
    tree = build_bucket_tree(model, own)
    pool = Pool()
    for options in part.choices:
        choice = model.project(options)
        value, cost = model.evaluate(choice) if choice is not None else (-math.inf, np.zeros(0))
        if choice is not None and value > -math.inf:
            value, cost = value - model.constant_value, cost - model.constant_cost
            pool.vertices.append(Vertex(value, cost, tuple(choice)))
    room = model.slack + model.tolerances
    dual = minimize_by_cuts(tree, own, pool, room, prices, overall=False)
    bound = min(part.bound, dual.bound + model.constant_value)
    polish(search, search.model)
    if bound <= search.value + EPSILON:
        return None
    smaller = reduce(tree, look_out(tree, dual.multipliers[None, :], own), search.value)
    if smaller is None:
        return None
    met = [*(v for _, v in dual.mixture), *pool.vertices[-CHOICES:]]
    return Part(
        smaller if smaller.entries < 0.9 * model.entries else model,
        bound,
        dual.multipliers,
        # of a variable that was split, the copies come behind
        np.array([model.complete(v.choice[: len(model.sizes)]) for v in met]),
        np.array([w for w, _ in dual.mixture]),
        part.seconds,
    )


def _restrict(search: Search, model: Model) -> Search:
    """Return a search of a part of what is open; what it finds is offered to the whole."""
    return replace(search, model=model, whole=search, restricts=True, rival=None, notes=[])


#: What a split of positions has lowered bounds by, the geometric mean of both halves.
Gains = dict[tuple[int, ...], float]
#: Positions whose options' sum is to be split, and where.
_Split = tuple[tuple[int, ...], float]


def _find_split(
    part: Part, groups: list[tuple[int, ...]], reach: dict[int, int], gains: Gains
) -> _Split | None:
    """Find a variable that touches many others, or a group, between whose options a part wavers.

    Variables that were not split yet come first, the farthest reach before all; then what has
    lowered the bounds of both halves most (pseudocosts; Benichou et al. 1971). A group that was not
    split yet is expected to do what other groups did.
    """
    mean, waver = part.average()
    usual = float(np.median(list(reach.values())))
    far = [p for p in part.model.variables if waver[p] > WAVER and reach[p] >= FAR * usual]
    far.sort(key=lambda p: (reach[p], waver[p]), reverse=True)
    sums = [(float(mean[list(group)].sum()), group) for group in groups]
    sums.sort(key=lambda one: abs(one[0] - round(one[0])), reverse=True)
    counts = [(group, count) for count, group in sums if abs(count - round(count)) > WAVER]
    known = [gain for group, gain in gains.items() if len(group) > 1]
    guess = sum(known) / len(known) if known else math.inf

    def expect(split: _Split) -> float:
        return gains.get(split[0], math.inf if len(split[0]) == 1 else guess)

    splits: list[_Split] = [*(((p,), float(mean[p])) for p in far), *counts]
    return max(splits, key=expect, default=None)


def _note_gain(
    gains: Gains, group: tuple[int, ...], bound: float, halves: list[Part | None], value: float
) -> None:
    """Keep by how much a split has lowered a bound in both halves; later ones count for more."""
    lower = [max(bound - (value if one is None else one.bound), 0.0) for one in halves]
    gain = math.sqrt(math.prod(lower)) if len(lower) > 1 else bound - value
    gains[group] = (gains.get(group, gain) + gain) / 2


def _find_near_split(part: Part) -> _Split:
    """Find the variable that wavers most; where none does, split one in the middle."""
    mean, waver = part.average()
    v, p = max(enumerate(part.model.variables), key=lambda item: waver[item[1]])
    keep = part.model.keep[v]
    return (p,), float(mean[p] if waver[p] > WAVER else keep[(len(keep) - 1) // 2])


def _halve(part: Part, group: tuple[int, ...], at: float) -> Iterator[tuple[Model, np.ndarray]]:
    """Yield the two halves of a part, with multipliers to start from."""
    model, most = part.model, math.floor(at)
    if len(group) > 1:
        for sign, limit in ((1, most), (-1, -most - 1)):
            yield limit_count(model, group, limit, sign), np.append(part.prices, 0.0)
        return
    v = model.variables.index(group[0])
    low = model.keep[v] <= most
    for side in (low, ~low):
        if side.any():
            alive = [np.ones(n, dtype=bool) for n in model.sizes]
            alive[v] = side
            yield model.restrict(alive, [f.value for f in model.factors]), part.prices


def _search_met(search: Search, part: Part, close: Close, near: int) -> None:
    """Look for a better choice among options that the part's choices take, or so near to them.

    What the relaxation has met is little, and hardly worse than all (a restricted master problem,
    as in column generation).
    """
    alive = []
    for p, keep in zip(part.model.variables, part.model.keep, strict=True):
        met = np.unique(part.choices[:, p])
        close_by = np.abs(keep[:, None] - met).min(axis=1) <= near
        # What was met may all be gone since: then nothing tells which options are worth a look.
        alive.append(close_by if close_by.any() else np.ones(len(keep), dtype=bool))
    model = part.model.restrict(alive, [f.value for f in part.model.factors])
    if model.constant_value == -math.inf:
        return
    own = _restrict(search, model)
    own.bound = part.bound
    own.deadline = min(search.deadline, time.perf_counter() + SECONDS)
    with suppress(OutOfTime):
        close(own, np.flatnonzero(part.prices).tolist())
    search.check()


def _try_labels(search: Search, part: Part, close: Close) -> Part | None:
    """Try to close a part by labels; return it with a smaller bound where time was too short."""
    own = _restrict(search, part.model)
    own.bound = part.bound
    own.deadline = min(search.deadline, time.perf_counter() + part.seconds)
    with suppress(OutOfTime):
        close(own, np.flatnonzero(part.prices).tolist())
    search.check()
    if own.bound <= search.value + EPSILON:
        return None
    bound = min(part.bound, own.bound)
    return replace(part, bound=bound, seconds=part.seconds * LONGER, tried=True)
