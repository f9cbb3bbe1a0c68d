"""The trade between a budget and the value: a proven solution a budget, and the envelope."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from .envelope import Envelope, build_shared_tree, trace_envelope
from .errors import BudgetError
from .methods.auto import solve_auto
from .problem import Problem
from .relaxation import Pool
from .search import Search, SolveProgress
from .solution import Solution, Status
from .solve import MEMORY_LIMIT_MB, conclude


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
    progress: Callable[[SolveProgress], None] | None = None,
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
    limits = [_check_limits(problem, b) for b in budgets]
    if not limits:
        return Frontier((), None)
    search = Search.start(problem, limits[0], gap, time_limit_s, memory_limit_mb)
    deadline, pool = search.deadline, Pool()
    tree = build_shared_tree(search)
    curve = None
    if tree is not None and len(limits[0]) == 1:
        until = search.started + 0.3 * time_limit_s
        curve = trace_envelope(tree, search, pool, envelope_loss, 200, until)
    solutions: dict[int, Solution] = {}
    choices: list[np.ndarray] = []
    # From the smallest budget up: what kept a smaller one keeps a larger one.
    for done, i in enumerate(sorted(range(len(limits)), key=lambda i: tuple(limits[i].values()))):
        now, left = time.perf_counter(), len(limits) - done
        one = replace(
            search,
            budgets=limits[i],
            model=search.model.replace_budgets(np.array(list(limits[i].values()))),
            started=now,
            deadline=now + max((deadline - now) / left, 1e-3),
            progress=_prefix_stage(progress, f"budget {done + 1} of {len(limits)}"),
            notes=[],
        )
        for choice in choices:
            one.offer_complete(choice)
        if tree is not None:
            tree.model, tree.check = one.model, one.check
        stopped = one.run(solve_auto, tree, pool if tree is not None else None)
        if stopped is Status.INTERRUPTED:
            deadline = 0.0
        solutions[i] = conclude(one, "auto", stopped)
        if one.choice is not None:
            choices.append(one.choice)
    return Frontier(tuple(solutions[i] for i in range(len(limits))), curve)


def _check_limits(problem: Problem, budget: float | Mapping[str, float]) -> dict[str, float]:
    """Return one budget of a frontier as a limit for every budgeted resource."""
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


def _prefix_stage(
    progress: Callable[[SolveProgress], None] | None, prefix: str
) -> Callable[[SolveProgress], None] | None:
    """Return a callback that hands each message on to ``progress``, its stage led by ``prefix``."""
    if progress is None:
        return None
    return lambda p: progress(replace(p, stage=f"{prefix}: {p.stage}"))
