"""Several tasks' scores of one network as one: what an index is worth to those that want it.

DiSparse (X. Sun et al., CVPR 2022) scores a shared network by every task's loss alone and prunes an
index only where all tasks would: it is kept where it is among the top k of any. As a rule for all k
at once that is a threshold on the largest rank over tasks (``"ranks"``). An objective adds values
up, for which the counterpart is the largest share of all that a task has (``"unanimous"``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from ..errors import PrunerError
from ..structure import Importance
from ..tasks import Task

Floats = NDArray[np.float64]
Combination = Literal["unanimous", "ranks", "sum", "max"]
COMBINATIONS: tuple[str, ...] = get_args(Combination)


def split_task(task: Task | None, how: str) -> Mapping[str, Task]:
    """Return the tasks whose scores are combined, by name.

    Raises:
        PrunerError: The way is unknown, or there are not at least two tasks.
    """
    if how not in COMBINATIONS:
        raise PrunerError(f"combine: expected {', '.join(COMBINATIONS)}, got {how!r}")
    parts = {} if task is None else task.split()
    if len(parts) < 2:
        name = "none" if task is None else next(iter(parts), task.name)
        raise PrunerError(
            f"combine: {how} is of the scores of several tasks, but there is only one: {name}. "
            "Give a task of named tasks (--task '{name: several, tasks: {...}}'), or leave it out"
        )
    return parts


def combine_importances(found: Mapping[str, Importance], how: str) -> Importance:
    """Combine the scores of one network by several tasks.

    With I the scores of a task, or its loss curves, and S their sum over all that can be cut (of
    curves: at the smallest sizes, and Blocks), the combined score of an index is

    - ``"unanimous"``: the largest I / S over tasks, so that what no task wants goes first;
    - ``"ranks"``: the largest share of indices over tasks that are worth less to the task;
      thresholds on it are DiSparse's decisions for every number of indices that a task keeps;
    - ``"sum"``: the sum of I / S over tasks, by which every task counts alike;
    - ``"max"``: the largest I over tasks, in the unit of their losses.

    What lies in a single task's head is worth nothing to the others, and so has its own task's
    score. Parts of cells are those of the task that decides, or their sums.

    Args:
        found: Task -> scores by one criterion, with the same Dims and, if any, curves and Blocks.
        how: One of these.

    Raises:
        PrunerError: A task has no scores but zero, or ranks are asked of scores with curves.
    """
    names, scores = list(found), list(found.values())
    first = scores[0]
    totals = np.array([_sum_worth(one) for one in scores])
    for name, total in zip(names, totals):
        if not total > 0:
            raise PrunerError(
                f"combine: task {name!r} scores nothing above zero: no batch that the scores look "
                "at has its targets, or its loss depends on nothing that can be cut"
            )
    criterion = f"{first.criterion}, {how} over {', '.join(names)}"
    if how == "ranks":
        if first.loss_curves:
            raise PrunerError(
                f"combine: ranks are of indices, but criterion {first.criterion!r} scores whole "
                "widths: choose unanimous, or a criterion of indices (taylor)"
            )
        ranks = _rank_worth(scores)
        return Importance(criterion, {d: _take_decisive(scores, d, ranks[d]) for d in first.parts})
    units = np.ones(len(scores)) if how == "max" else 1 / totals
    reduce = _REDUCTIONS[how]
    parts = {}
    for dim in first.parts:
        if how == "sum":
            parts[dim] = _add_cells(scores, dim, units)
        else:
            worth = np.array([u * one.total(dim) for u, one in zip(units, scores)])
            parts[dim] = _take_decisive(scores, dim, worth)
    curves = {
        dim: reduce([u * one.loss_curves[dim] for u, one in zip(units, scores)])
        for dim in first.loss_curves
    }
    blocks = {
        name: float(reduce([np.float64(u * one.blocks[name]) for u, one in zip(units, scores)]))
        for name in first.blocks
    }
    return Importance(criterion, parts, blocks, curves)


def _reduce_by_max(values: Sequence[Floats]) -> Floats:
    return np.asarray(np.max(values, 0))


def _reduce_by_sum(values: Sequence[Floats]) -> Floats:
    return np.asarray(np.sum(values, 0))


_REDUCTIONS: dict[str, Callable[[Sequence[Floats]], Floats]] = {
    "unanimous": _reduce_by_max, "max": _reduce_by_max, "sum": _reduce_by_sum,
}  # fmt: skip


def _sum_worth(scores: Importance) -> float:
    """Return all that a task has to lose."""
    total = 0.0
    for dim in scores.parts:
        curve = scores.loss_curves.get(dim)
        total += float(scores.total(dim).sum() if curve is None else curve[0])
    if scores.loss_curves:
        total += sum(max(loss, 0.0) for loss in scores.blocks.values())
    return total


def _rank_worth(scores: Sequence[Importance]) -> dict[str, Floats]:
    """Return Dim -> [tasks, size]: the share of all indices that are worth less to each task."""
    dims = list(scores[0].parts)
    sizes = [len(scores[0].total(dim)) for dim in dims]
    rows = [np.concatenate([one.total(dim) for dim in dims]) for one in scores]
    ranks = np.array([(rankdata(row, method="min") - 1) / len(row) for row in rows])
    return dict(zip(dims, np.split(ranks, np.cumsum(sizes)[:-1], axis=1)))


def _take_decisive(scores: Sequence[Importance], dim: str, worth: Floats) -> dict[str, Floats]:
    """Return the largest worth over tasks, shared out among cells as that task's score is.

    Args:
        scores: Of the tasks.
        dim: The Dim.
        worth: [tasks, size].
    """
    cells = list(dict.fromkeys(cell for one in scores for cell in one.parts[dim]))
    size = worth.shape[1]
    best = worth.argmax(0)
    zeros = np.zeros(size)
    parts = np.array([[one.parts[dim].get(c, zeros) for c in cells] for one in scores])
    own = parts[best, :, np.arange(size)].T  # [cells, size]
    total = own.sum(0)
    share = np.divide(own, total, where=total > 0, out=np.full(own.shape, 1 / len(cells)))
    return dict(zip(cells, share * worth.max(0)))


def _add_cells(scores: Sequence[Importance], dim: str, units: Floats) -> dict[str, Floats]:
    """Return each cell's parts, summed over tasks."""
    result: dict[str, Floats] = {}
    for unit, one in zip(units, scores):
        for cell, values in one.parts[dim].items():
            result[cell] = result.get(cell, 0.0) + unit * np.asarray(values)
    return result
