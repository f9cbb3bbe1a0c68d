"""The concave envelope of value over one resource's cost, which bounds every budget's solution."""

import heapq
import math
import time
from dataclasses import dataclass

import numpy as np

from .errors import ProblemError
from .problem import Problem
from .relaxation import Pool, Vertex, build_hull, evaluate
from .search import Search
from .solve import MEMORY_LIMIT_MB
from .tree import BucketTree, TreeTooLarge


@dataclass(frozen=True)
class Envelope:
    """Choices on the upper concave envelope of value over one resource's cost.

    Every point is optimal for the budget that it costs exactly. For a budget in between, the point
    to the left keeps it; ``largest_loss`` bounds how far its value lies below the exact frontier,
    whatever the budget, and ``largest_loss_at`` is the budget below which that may happen.

    Attributes:
        resource: The resource on the horizontal axis.
        cost: Costs in ascending order [n]; below the first one nothing is feasible.
        value: Values in ascending order [n].
        choices: The choices themselves [n].
        largest_loss: In the unit of value.
        largest_loss_at: In the unit of cost.
        complete: Whether all vertices are here; otherwise only enough for the loss asked for.
    """

    resource: str
    cost: tuple[float, ...]
    value: tuple[float, ...]
    choices: tuple[dict[str, int], ...]
    largest_loss: float
    largest_loss_at: float
    complete: bool


def envelope(
    problem: Problem,
    loss: float = 0.001,
    time_limit_s: float = 600.0,
    max_evaluations: int = 2000,
    memory_limit_mb: float = MEMORY_LIMIT_MB,
) -> Envelope:
    """Compute the concave envelope of value over the one budgeted resource, for all its budgets.

    Between two neighbours of the path a multiplier equal to their slope either finds a vertex above
    their chord or proves that there is none; the largest step is refined first.

    Args:
        problem: With one budgeted resource; the budget itself plays no role.
        loss: Stop when ``largest_loss`` is this share of the range of values.
        time_limit_s: Stop then with what is known; the loss stays a true bound.
        max_evaluations: Stop after so many passes.
        memory_limit_mb: As in :func:`solver.solve`.

    Raises:
        ProblemError: Not exactly one budgeted resource, no admissible choice, or elimination tables
            beyond the memory limit.
    """
    if len(problem.budgets) != 1:
        raise ProblemError(
            f"an envelope needs one budgeted resource, {problem.name!r} has "
            f"{', '.join(problem.budgets) or 'none'}"
        )
    search = Search.start(problem, problem.budgets, 0.0, time_limit_s, memory_limit_mb)
    tree = build_shared_tree(search)
    curve = None
    if tree is not None:
        curve = trace_envelope(tree, search, Pool(), loss, max_evaluations, search.deadline)
    if curve is None:
        raise ProblemError("; ".join(search.notes) or f"{problem.name!r} admits no choice")
    return curve


def build_shared_tree(search: Search) -> BucketTree | None:
    """Build the tree that all budgets share; None where nothing is admissible or it is too large.

    Its passes do not end at a deadline unless it is given one.
    """
    try:
        admissible = search.model.constant_value > -math.inf
        return BucketTree(search.model, search.entries_limit) if admissible else None
    except TreeTooLarge as error:
        search.notes.append(str(error))
        return None


def trace_envelope(
    tree: BucketTree, search: Search, pool: Pool, loss: float, passes: int, deadline: float
) -> Envelope | None:
    """Refine the envelope where its step is largest; None where no choice is admissible.

    Args:
        tree: Of the search's model, which has one budget.
        search: Names the problem; not changed.
        pool: Gets the vertices met.
        loss: Stop when the largest step is this share of the range of values.
        passes: Stop after so many evaluations.
        deadline: Stop then, by ``time.perf_counter``.
    """
    _, cheapest = evaluate(tree, np.ones(1), value_weight=0.0)
    _, top = evaluate(tree, np.zeros(1))
    if cheapest is None or top is None:
        return None
    pool.cheapest, pool.top = [cheapest], top
    found = build_hull([cheapest, top])
    final: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()
    span = max(top.value - cheapest.value, 0.0)
    heap = [_rank_step(a, b) for a, b in zip(found, found[1:])]
    for _ in range(passes):
        while heap and (heap[0][3].choice, heap[0][4].choice) in final:
            heapq.heappop(heap)
        if not heap or -heap[0][0] <= loss * span or time.perf_counter() > deadline:
            break
        _, _, _, a, b = heapq.heappop(heap)
        slope = (b.value - a.value) / (b.cost[0] - a.cost[0])
        best, vertex = evaluate(tree, np.array([slope]))
        assert vertex is not None
        if best <= a.value - slope * a.cost[0] + 1e-12:
            final.add((a.choice, b.choice))
            continue
        pool.vertices.append(vertex)
        for pair in ((a, vertex), (vertex, b)):
            if pair[1].cost[0] > pair[0].cost[0] and pair[1].value > pair[0].value:
                heapq.heappush(heap, _rank_step(*pair))
    return _build_envelope(search, build_hull([cheapest, top, *pool.vertices]), not heap)


def _rank_step(a: Vertex, b: Vertex) -> tuple[float, float, tuple[int, ...], Vertex, Vertex]:
    """Return a heap's entry for the step from a to b; the middle ones break ties."""
    return (a.value - b.value, float(b.cost[0]), a.choice + b.choice, a, b)


def _build_envelope(search: Search, chain: list[Vertex], complete: bool) -> Envelope:
    """Return an envelope through these vertices, in the problem's own units."""
    problem, resource = search.problem, search.model.units.resources[0]
    full = [search.model.complete(vertex.choice) for vertex in chain]
    choices = tuple({v: int(o) for v, o in zip(problem.options, options)} for options in full)
    points = [problem.evaluate(choice) for choice in choices]
    values = tuple(value for value, _ in points)
    costs = tuple(cost[resource] for _, cost in points)
    steps = [(b - a, c) for a, b, c in zip(values, values[1:], costs[1:])]
    worst = max(steps, default=(0.0, costs[0]))
    return Envelope(resource, costs, values, choices, worst[0], worst[1], complete)
