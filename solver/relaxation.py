"""The Lagrangian dual: prices for the budgets, a bound, and the choices met on the way.

For multipliers m >= 0 the maximum of ``sum_t value_t + m . (budget - sum_t cost_t)`` over all
choices bounds the problem from above (Geoffrion, *Lagrangean relaxation for integer programming*,
1974; Fisher, *The Lagrangian relaxation method*, Management Science 27, 1981). It is convex and
piecewise linear in m, and every evaluation is exact here, so finitely many cuts are enough.
One budget needs no more than the intersection of two lines (the secant method on the frontier's
concave envelope); several are kept in a small linear program (:mod:`~solver.mixture`) with queries
damped towards the best.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from .mixture import ChoiceMixture
from .search import EPSILON, Search
from .tree import BucketTree

#: Weights of a mixture below this are rounding.
WEIGHT = 1e-9


@dataclass(frozen=True, eq=False)
class Vertex:
    """A choice met at some multipliers: its scaled value and costs [R], without constants."""

    value: float
    cost: np.ndarray
    choice: tuple[int, ...]


@dataclass(eq=False)
class Pool:
    """Vertices of one model, whatever the budgets: what one budget's dual met serves the next."""

    cheapest: list[Vertex] = field(default_factory=list)
    top: Vertex | None = None
    vertices: list[Vertex] = field(default_factory=list)


@dataclass(eq=False)
class Dual:
    """The best multipliers [R] found and the bound that they give (scaled).

    A bound of ``-inf`` says that no admissible choice keeps the budgets. For several budgets,
    ``mixture`` has the weights of the vertices between which the relaxation wavers.
    """

    multipliers: np.ndarray
    bound: float
    mixture: list[tuple[float, Vertex]] = field(default_factory=list)


def evaluate(
    tree: BucketTree, multipliers: np.ndarray, value_weight: float = 1.0
) -> tuple[float, Vertex | None]:
    """Return the tree's maximum at ``multipliers`` [R], no constants, and a vertex that reaches it.

    The vertex is None where no choice is admissible.
    """
    best = tree.forward(multipliers, value_weight)
    if best == -math.inf:
        return best, None
    choice = tuple(tree.decode())
    value, cost = tree.model.evaluate(choice)
    model = tree.model
    return best, Vertex(value - model.constant_value, cost - model.constant_cost, choice)


def minimize(
    tree: BucketTree,
    search: Search,
    start: np.ndarray | None = None,
    pool: Pool | None = None,
    overall: bool = True,
) -> Dual:
    """Find the multipliers of the smallest bound; incumbents go to ``search`` on the way.

    Args:
        tree: The bucket tree of a restriction of the search's model.
        search: Receives feasible choices; its deadline holds.
        start: Multipliers [R] to try first.
        pool: What other budgets' duals met on this tree; extended here.
        overall: Whether the tree covers all that is open, so that its bound is the search's; a
            part of it may stop as soon as it cannot beat the incumbent.

    Returns:
        Multipliers and bound, constants included.
    """
    model = tree.model
    count = len(model.budgets)
    room = model.slack + model.tolerances
    pool = pool or Pool()
    if model.constant_value == -math.inf:
        return Dual(np.zeros(count), -math.inf)
    if not count:
        best, vertex = evaluate(tree, np.zeros(0))
        if vertex is None:
            return Dual(np.zeros(0), -math.inf)
        search.offer(model, vertex.choice)
        return Dual(np.zeros(0), model.constant_value + best)
    for r in range(len(pool.cheapest), count):
        low = np.zeros(count)
        low[r] = 1.0
        _, vertex = evaluate(tree, low, value_weight=0.0)
        if vertex is None:
            return Dual(np.zeros(count), -math.inf)
        pool.cheapest.append(vertex)
    smallest = np.array([v.cost[r] for r, v in enumerate(pool.cheapest)])
    if (smallest > room).any():
        return Dual(np.zeros(count), -math.inf)
    for vertex in (*pool.cheapest, *pool.vertices):
        if (vertex.cost <= room).all() and vertex.value + model.constant_value > search.value:
            search.offer(model, vertex.choice)
    method = _minimize_by_secants if count == 1 else minimize_by_cuts
    dual = method(tree, search, pool, room, start, overall)
    dual.bound += model.constant_value
    return dual


def _minimize_by_secants(
    tree: BucketTree,
    search: Search,
    pool: Pool,
    room: np.ndarray,
    start: np.ndarray | None,
    overall: bool,
) -> Dual:
    """Minimize the dual of one budget; the bound leaves out the model's constants."""
    model, limit = tree.model, float(room[0])
    if pool.top is None:
        _, pool.top = evaluate(tree, np.zeros(1))
        assert pool.top is not None
        search.offer(model, pool.top.choice)
    dual = Dual(np.zeros(1), pool.top.value)
    if pool.top.cost[0] <= limit:
        return dual
    neighbours = bracket([*pool.cheapest, pool.top, *pool.vertices], limit)
    if neighbours is None:
        return dual
    below, above = neighbours
    guess = None if start is None else max(0.0, float(start[0]))
    while True:
        secant = guess is None
        if guess is None:
            span = above.cost[0] - below.cost[0]
            guess = max(0.0, float((above.value - below.value) / span))
        multiplier, guess = guess, None
        best, vertex = evaluate(tree, np.array([multiplier]))
        assert vertex is not None
        pool.vertices.append(vertex)
        bound = best + multiplier * limit
        if bound < dual.bound:
            dual.bound, dual.multipliers = bound, np.array([multiplier])
            if overall:
                search.tighten(bound + model.constant_value)
        search.offer(model, vertex.choice)
        search.report("relaxation")
        if not overall and dual.bound + model.constant_value <= search.value:
            return dual
        known = above.value - multiplier * above.cost[0]
        if search.done or (secant and best <= known + EPSILON):
            return dual
        if vertex.cost[0] > limit:
            closer = vertex.cost[0] < above.cost[0]
            above = vertex if closer else above
        else:
            closer = vertex.cost[0] > below.cost[0] or vertex.value > below.value
            below = vertex if closer else below
        if secant and not closer:
            return dual


def build_hull(vertices: list[Vertex]) -> list[Vertex]:
    """Return the vertices on the concave envelope of value over cost [R = 1], by ascending cost."""
    chain: list[Vertex] = []
    for v in sorted(vertices, key=lambda v: (v.cost[0], -v.value)):
        if chain and v.value <= chain[-1].value:
            continue
        while len(chain) > 1 and (v.value - chain[-1].value) * (
            chain[-1].cost[0] - chain[-2].cost[0]
        ) >= (chain[-1].value - chain[-2].value) * (v.cost[0] - chain[-1].cost[0]):
            chain.pop()
        chain.append(v)
    return chain


def bracket(vertices: list[Vertex], limit: float) -> tuple[Vertex, Vertex] | None:
    """Return the envelope's vertices next to a cost of ``limit``, one on each side.

    None where the most valuable of them costs no more than that.
    """
    chain = build_hull(vertices)
    if chain[-1].cost[0] <= limit:
        return None
    at = next(i for i, v in enumerate(chain) if v.cost[0] > limit)
    return chain[at - 1], chain[at]


def minimize_by_cuts(
    tree: BucketTree,
    search: Search,
    pool: Pool,
    room: np.ndarray,
    start: np.ndarray | None,
    overall: bool,
) -> Dual:
    """Minimize the dual of several budgets, from vertices that the pool has.

    Arguments as in :func:`minimize`; the bound leaves out the model's constants.
    """
    model, count = tree.model, len(room)
    # Below this no bound of a feasible problem can fall: then the budgets exclude one another.
    floor = sum(float(f.value[np.isfinite(f.value)].min(initial=0.0)) for f in model.factors)
    dual = Dual(np.zeros(count), math.inf)
    mixture, vertices = ChoiceMixture(room), [*pool.cheapest, *pool.vertices]
    for known in vertices:
        mixture.add(known.value, known.cost)
    query = np.zeros(count) if start is None else start
    damped = False
    for number in range(400):
        best, vertex = evaluate(tree, query)
        if vertex is None:
            return Dual(query, -math.inf)
        bound = best + float(query @ room)
        vertices.append(vertex)
        pool.vertices.append(vertex)
        mixture.add(vertex.value, vertex.cost)
        if bound < dual.bound - EPSILON:
            dual.bound, dual.multipliers = bound, query
            if overall:
                search.tighten(bound + model.constant_value)
        elif not damped and bound <= mixture.value + 1e-10:
            break
        search.offer(model, vertex.choice)
        search.report("relaxation")
        if search.done or dual.bound + model.constant_value <= search.value:
            break
        if dual.bound < floor - 1e-9:
            dual.bound = -math.inf
            break
        mixture.solve()
        mixture.widen()
        # The rounds and passes that follow refine what a hundredth of the gap leaves open.
        enough = 0.01 * (dual.bound + model.constant_value - search.value)
        left = dual.bound - mixture.value
        if left <= max(1e-9, enough if search.choice is not None else 0.0):
            break
        # Kelley's point jumps; half the way from the best point keeps the cuts where they matter.
        damped = not damped and number > 2
        query = 0.5 * (mixture.prices + dual.multipliers) if damped else mixture.prices
    dual.mixture = [(float(w), v) for w, v in zip(mixture.weights, vertices) if w > WEIGHT]
    return dual
