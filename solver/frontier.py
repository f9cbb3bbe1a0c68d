"""The trade between a budget and the value: a proven solution a budget, and the envelope."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from .errors import BudgetError, ProblemError
from .interrupts import interrupts
from .methods.auto import auto
from .methods.lagrangian import bucket_tree
from .model import Model, build
from .problem import Problem
from .relaxation import Pool, Vertex, evaluate, hull
from .search import OutOfTime, Progress, Search
from .solution import Solution, Status
from .solve import MEMORY_LIMIT_MB, conclude
from .tree import BucketTree


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


@dataclass(frozen=True)
class Frontier:
    """One solution for every budget asked for, in their order, and the envelope of all budgets.

    ``envelope`` is None for several budgeted resources (it would be a surface) or where variables
    had to be split (its points would not be choices).
    """

    solutions: tuple[Solution, ...]
    envelope: Envelope | None


def frontier(
    problem: Problem,
    budgets: Iterable[float | Mapping[str, float]],
    gap: float = 0.0,
    time_limit_s: float = 600.0,
    envelope_loss: float = 0.01,
    progress: Callable[[Progress], None] | None = None,
    memory_limit_mb: float = MEMORY_LIMIT_MB,
) -> Frontier:
    """Solve for many budgets; elimination tables and multiplier path are shared.

    Args:
        problem: What to solve. Its own budgets name the limited resources.
        budgets: For every solution a limit (where one resource is budgeted) or a mapping with
            a limit for every budgeted resource.
        gap: Relative gap at which a budget counts as done; 0 proves each.
        time_limit_s: For all budgets together; what is left is shared out evenly.
        envelope_loss: Refine the envelope until its largest loss is this share of its range of
            values (at most 200 evaluations).
        progress: As in :func:`solver.solve`, with the budget's number in the stage.
        memory_limit_mb: As in :func:`solver.solve`.

    Raises:
        ProblemError: Malformed budgets.
    """
    started = time.perf_counter()
    limits = [_limits(problem, b) for b in budgets]
    if not limits:
        return Frontier((), None)
    model = build(problem, limits[0])
    deadline = started + time_limit_s
    search = Search(problem, limits[0], model, gap, deadline, started)
    entries = int(memory_limit_mb * 1e6 / 8)
    pool = Pool()
    tree = _tree(model, entries, search)
    curve = None
    if tree is not None and len(limits[0]) == 1:
        span_s = 0.3 * time_limit_s
        curve = _trace(problem, tree, pool, envelope_loss, 200, started + span_s)
    solutions: dict[int, Solution] = {}
    best: list[tuple[np.ndarray, float]] = []
    # From the smallest budget up: what kept a smaller one keeps a larger one.
    for done, i in enumerate(sorted(range(len(limits)), key=lambda i: tuple(limits[i].values()))):
        now = time.perf_counter()
        share = max((deadline - now) / (len(limits) - done), 1e-3)
        one = Search(
            problem,
            limits[i],
            model.with_budgets(np.array(list(limits[i].values()))),
            gap,
            now + share,
            now,
            _numbered(progress, done, len(limits)),
        )
        one.notes.extend(search.notes)
        for full, _ in best:
            _retry(one, full)
        stopped = None
        try:
            if tree is not None:
                tree.model, tree.check = one.model, one.check
            with interrupts() as one.interrupted:
                auto(one, entries, tree, pool if tree is not None else None)
        except OutOfTime:
            stopped = Status.TIME_LIMIT
        except KeyboardInterrupt:
            stopped, deadline = Status.INTERRUPTED, 0.0
        solutions[i] = conclude(one, "auto", stopped, entries)
        if one.choice is not None:
            best.append((one.choice, one.value))
    return Frontier(tuple(solutions[i] for i in range(len(limits))), curve)


def envelope(
    problem: Problem,
    loss: float = 0.001,
    time_limit_s: float = 600.0,
    max_evaluations: int = 2000,
    memory_limit_mb: float = MEMORY_LIMIT_MB,
) -> Envelope:
    """The concave envelope of value over the one budgeted resource, for all budgets at once.

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
    model = build(problem, problem.budgets)
    now = time.perf_counter()
    search = Search(problem, problem.budgets, model, 0.0, now + time_limit_s, now)
    tree = _tree(model, int(memory_limit_mb * 1e6 / 8), search)
    curve = None
    if tree is not None and tree.model.split_from is None:
        curve = _trace(problem, tree, Pool(), loss, max_evaluations, search.deadline)
    if curve is None:
        raise ProblemError("; ".join(search.notes) or f"{problem.name!r} admits no choice")
    return curve


def _tree(model: Model, entries: int, search: Search) -> BucketTree | None:
    """The tree that all budgets share, or None where each has to split variables for itself."""
    if model.constant_value == -math.inf:
        return None
    try:
        tree = bucket_tree(model, entries, search)
    except OutOfTime:
        return None
    if tree.model.split_from is not None:
        search.notes.clear()
        return None
    return tree


def _limits(problem: Problem, budget: float | Mapping[str, float]) -> dict[str, float]:
    if isinstance(budget, Mapping):
        if set(budget) != set(problem.budgets):
            raise BudgetError(
                f"every budget of a frontier must limit {', '.join(problem.budgets)}; given: "
                f"{', '.join(budget)}"
            )
        return problem.check_budgets({r: budget[r] for r in problem.budgets})
    if len(problem.budgets) != 1:
        raise BudgetError(
            "a plain number needs exactly one budgeted resource, "
            f"{problem.name!r} has {', '.join(problem.budgets) or 'none'}; give mappings"
        )
    return problem.check_budgets({next(iter(problem.budgets)): budget})


def _numbered(
    progress: Callable[[Progress], None] | None, done: int, count: int
) -> Callable[[Progress], None] | None:
    if progress is None:
        return None
    return lambda p: progress(
        Progress(f"budget {done + 1} of {count}: {p.stage}", p.seconds, p.value, p.bound)
    )


def _retry(search: Search, full: np.ndarray) -> None:
    """Offer another budget's choice (options of all variables of the problem)."""
    model = search.model
    local = [
        int(np.searchsorted(keep, full[position]))
        for position, keep in zip(model.variables, model.keep)
    ]
    search.offer(model, local)


def _trace(
    problem: Problem,
    tree: BucketTree,
    pool: Pool,
    loss: float,
    max_evaluations: int,
    deadline: float,
) -> Envelope | None:
    _, cheapest = evaluate(tree, np.ones(1), value_weight=0.0)
    _, top = evaluate(tree, np.zeros(1))
    if cheapest is None or top is None:
        return None
    pool.cheapest, pool.top = [cheapest], top
    found = hull([cheapest, top])
    final: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()
    span = max(top.value - cheapest.value, 0.0)
    heap = [_step(a, b) for a, b in zip(found, found[1:])]
    for _ in range(max_evaluations):
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
                heapq.heappush(heap, _step(*pair))
    return _envelope(problem, tree, hull([cheapest, top, *pool.vertices]), not heap)


def _step(a: Vertex, b: Vertex) -> tuple[float, float, tuple[int, ...], Vertex, Vertex]:
    # The middle entries only break ties, so that vertices are never compared.
    return (a.value - b.value, float(b.cost[0]), a.choice + b.choice, a, b)


def _envelope(problem: Problem, tree: BucketTree, chain: list[Vertex], complete: bool) -> Envelope:
    resource = tree.model.units.resources[0]
    choices, costs, values = [], [], []
    for vertex in chain:
        full = tree.model.complete(vertex.choice)
        choice = {v: int(o) for v, o in zip(problem.options, full)}
        value, cost = problem.evaluate(choice)
        choices.append(choice)
        values.append(value)
        costs.append(cost[resource])
    steps = [(b - a, c) for a, b, c in zip(values, values[1:], costs[1:])]
    worst = max(steps, default=(0.0, costs[0]))
    return Envelope(
        resource, tuple(costs), tuple(values), tuple(choices), worst[0], worst[1], complete
    )
