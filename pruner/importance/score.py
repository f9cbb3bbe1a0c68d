"""score: what every index of every Dim is worth, by a criterion, for one task or several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Literal, get_args

from ..data import Batch
from ..errors import PrunerError
from ..graph import evaluation_mode
from ..structure import Importance, Network
from ..tasks import Task
from .base import Callback, Criterion, Loss, Subject, UserCriterion
from .combine import combine_importances, split_task
from .measured import MeasuredCriterion
from .network_criterion import NetworkCriterion
from .registry import resolve_criterion
from .tally import Tally, add_batches, require_batch

Curves = Literal["auto", "own", "measured"]
CURVES: tuple[str, ...] = get_args(Curves)


def score(
    net: Network, batches: Iterable[Batch] | None, loss: Loss | None,
    criterion: str | Criterion | NetworkCriterion | UserCriterion = "measured",
    progress: Callback = None,
    *,
    task: Task | None = None, curves: str = "auto", combine: str | None = None,
) -> Importance:  # fmt: skip
    """Estimate what every index of every Dim is worth.

    For observation n (a batch, or a sample where the criterion looks at samples) let c_k(n, i) be
    the signed contribution of the tensors of cell k to index i of a Dim. The Dim's score is

        s(i) = mean over n of rise(sum over k of c_k(n, i))

    where rise is the magnitude for first-order criteria, and the part of cell k is s shared out in
    proportion to abs(c_k): terms of one residual stream may cancel, yet every layer, and so every
    removable block, keeps its part.

    Args:
        net: The traced network; left as it was: mode, weights, statistics, gradients.
        batches: Pairs (inputs, targets); inputs is a tensor, a tuple of positional or a dict of
            keyword arguments. None for criteria that look at weights alone.
        loss: loss(outputs, targets) -> scalar, the mean over the batch (None: the task's).
        criterion: A name (see `pruner.importance.CRITERIA`), a Criterion, or a function (name,
            parameter, gradient or None) -> contributions in the parameter's shape, used on the
            parameters that write each Dim.
        progress: Called with (steps done, steps in all or None).
        task: Calls the network, and tells how far outputs are from the dense network's. None: the
            inputs are its arguments, outputs compared by `pruner.tasks.compare_outputs`.
        curves: ``"own"``: what the criterion says; ``"measured"``: its order within each Dim, and
            what widths lose in that order, and Blocks, as criterion ``measured`` measures it;
            ``"auto"``: measured for criteria that are meant so (``path``).
        combine: How scores by each task of a task of tasks are made one (see
            `pruner.importance.combine_importances`); None: scores are of the tasks' weighted sum.

    Raises:
        PrunerError: The criterion is unknown, or needs data where there is none; scores are not
            finite; or there are no tasks to combine.
    """
    method = resolve_criterion(criterion, batches)
    _check_target(method, task)
    measures = _asks_curves(method, curves, batches)
    if isinstance(batches, Iterator):
        batches = list(batches)  # a criterion may go through them more than once
    tasks = {} if combine is None else _split_task(method, task, loss, combine, measures)
    found = _score_for_tasks(net, batches, loss, method, progress, task, tasks, combine)
    if measures:
        along = MeasuredCriterion(order=found)
        name = f"{found.criterion}, measured curves"
        found = _score_for_tasks(net, batches, loss, along, progress, task, tasks, combine)
        found = replace(found, criterion=name)
    _check_complete(net, found)
    return found


def _score_for_tasks(
    net: Network, batches: Iterable[Batch] | None, loss: Loss | None,
    method: Criterion | NetworkCriterion, progress: Callback, task: Task | None,
    tasks: Mapping[str, Task], combine: str | None,
) -> Importance:  # fmt: skip
    """Score by one criterion, for every task by itself where their scores are to be combined."""
    if combine is None or not method.needs_task:
        return _score_by(net, batches, loss, method, progress, task)
    found = {
        name: _score_by(net, batches, None, method, progress, one) for name, one in tasks.items()
    }
    return combine_importances(found, combine)


def _score_by(
    net: Network, batches: Iterable[Batch] | None, loss: Loss | None,
    method: Criterion | NetworkCriterion, progress: Callback, task: Task | None,
) -> Importance:  # fmt: skip
    """Score by one criterion for one task."""
    if loss is None and task is not None and (task.has_loss or method.needs == "gradients"):
        loss = task.mean_loss
    if isinstance(method, NetworkCriterion):
        if not isinstance(net, Network):
            raise PrunerError(f"criterion {method.name!r} needs a network that pruner.trace made")
        assert batches is not None
        batches = list(batches)
        for number, batch in enumerate(batches, 1):
            require_batch(method.name, number, batch)
        if task is None:
            return method.score(net, batches, loss, progress)
        return method.score(net, batches, loss, progress, task)
    with evaluation_mode(net.module, gradients=True):
        tally = Tally(method, Subject.wrap(net.module, task), net.dims)
        if method.needs == "weights":
            tally.add()
        else:
            assert batches is not None
            add_batches(tally, batches, loss, progress)
        return Importance(method.name, tally.average())


def _check_target(method: Criterion | NetworkCriterion, task: Task | None) -> None:
    if method.needs_target and (task is None or task.target is None):
        raise PrunerError(
            f"criterion {method.name!r} looks at a second domain: give its samples, without labels "
            "(on the command line --target-data DIR)"
        )


def _asks_curves(
    method: Criterion | NetworkCriterion, curves: str, batches: Iterable[Batch] | None
) -> bool:
    """Return whether curves are to be measured along a criterion's order."""
    if curves not in CURVES:
        raise PrunerError(f"curves: expected {', '.join(CURVES)}, got {curves!r}")
    if isinstance(method, MeasuredCriterion):  # its own are such
        return False
    measures = curves == "measured" or (curves == "auto" and method.measured_curves)
    if measures:
        resolve_criterion(MeasuredCriterion.name, batches)  # needs data
    return measures


def _split_task(
    method: Criterion | NetworkCriterion, task: Task | None, loss: Loss | None, combine: str,
    measures: bool,
) -> Mapping[str, Task]:  # fmt: skip
    """Return the tasks to combine the scores of; PrunerError where a criterion cannot tell them."""
    tasks = split_task(task, combine)
    if loss is not None:
        raise PrunerError("combine: every task has a loss of its own; give none beside them")
    if not method.needs_task and not measures:
        raise PrunerError(
            f"combine: criterion {method.name!r} does not look at losses, so all tasks have the "
            "same scores: choose one that does (measured, taylor), or --curves measured"
        )
    for name, one in tasks.items():
        if method.needs == "gradients" and not one.has_loss:
            raise PrunerError(
                f"combine: task {name!r} has no loss, which criterion {method.name!r} needs: "
                "choose one that compares outputs with the dense network's (measured)"
            )
    return tasks


def _check_complete(net: Network, found: Importance) -> None:
    missing = [name for name in net.dims if name not in found.parts]
    if missing:
        raise PrunerError(
            f"criterion {found.criterion!r} has no scores of its own for {', '.join(missing[:3])} "
            f"({len(missing)} of {len(net.dims)} dims): measure curves along its order instead "
            "(--curves measured)"
        )
