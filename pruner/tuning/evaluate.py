"""A network judged on batches, by its task's metric and loss."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..data import Batch, require_samples
from ..errors import PrunerError
from ..graph import evaluation_mode
from ..tasks import DEFAULT, Metric, MetricKind, Task, Total, explain_failure


@dataclass(frozen=True)
class Evaluation:
    """Result of a network on so many samples, and the seconds that it took.

    Attributes:
        value: The task's metric.
        loss: Mean of the task's loss over predictions; NaN where it has none in evaluation mode.
        images: Samples.
        seconds: Time spent.
        metric: What the value means.
        others: Values of the metrics that go along with it, by their keys.
    """

    value: float
    loss: float
    images: int
    seconds: float
    metric: MetricKind
    others: Mapping[str, float] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """The former name of value."""
        return self.value


def evaluate(
    module: nn.Module,
    loader: Iterable[Batch],
    task: Task | None = None,
    *,
    dense: nn.Module | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    gather: Callable[[Any], list[Any]] | None = None,
) -> Evaluation:
    """Run batches through a network in evaluation mode, and leave it in the mode of before.

    Args:
        module: The network.
        loader: Pairs of inputs and targets.
        task: Calls the network and judges its outputs (None: `pruner.tasks.DEFAULT`).
        dense: The dense network, for a task whose metric is the divergence from it.
        progress: Is called with (batches done, batches in all or None).
        gather: Collects an object from every process, where each has a share of the samples.

    Raises:
        PrunerError: There are no samples, targets do not fit the outputs, these are NaN throughout,
            or the metric says nothing.
    """
    task = task or DEFAULT()
    metric = task.judge()
    if metric.needs_dense and dense is None:
        raise PrunerError(
            f"evaluate: {metric.kind.name} of task {task.name!r} needs the dense network"
        )
    total = len(loader) if isinstance(loader, Sized) else None
    samples, loss, predictions = 0, 0.0, 0
    begun = time.perf_counter()
    with evaluation_mode(module, *(m for m in (dense,) if m is not None)), torch.inference_mode():
        for done, (inputs, targets) in enumerate(loader, 1):
            samples += require_samples((inputs, targets), f"evaluate: batch {done}")
            found = _add_batch(metric, task, module, dense, inputs, targets)
            if found is not None:
                loss, predictions = loss + float(found.value), predictions + found.count
            if progress is not None:
                progress(done, total)
    if gather is not None:
        every = gather((metric.state(), samples, loss, predictions))
        metric = task.judge()
        for state, *_ in every:
            metric.merge(state)
        samples, loss, predictions = (sum(part) for part in list(zip(*every, strict=True))[1:])
    if not samples:
        raise PrunerError("evaluate: no images; the loader is empty")
    main, *others = _compute_all(metric, task).items()
    mean = loss / predictions if predictions else math.nan
    seconds = time.perf_counter() - begun
    return Evaluation(main[1], mean, samples, seconds, metric.kind, dict(others))


def _add_batch(
    metric: Metric, task: Task, module: nn.Module, dense: nn.Module | None, inputs: Any,
    targets: Any,
) -> Total | None:  # fmt: skip
    """Add a batch to a metric, and return its loss if there is one."""
    targets = _to_cpu(targets, task, single=False)
    outputs, taught = _to_cpu(task.forward(module, inputs, targets), task), None
    _require_numbers(outputs)
    if metric.needs_dense and dense is not None:
        taught = _to_cpu(task.forward(dense, inputs, targets), task)
    if task.has_loss or not metric.needs_dense:
        task.check(outputs, targets)
    with explain_failure(task.name, f"metric {metric.kind.name}"):
        metric.add(outputs, targets, taught)
    return task.total_loss(outputs, targets)


def _require_numbers(outputs: Any) -> None:
    """Raise PrunerError where an output holds nothing but NaN: a metric may count it as a guess."""
    for one in pytree.tree_leaves(outputs):
        floats = isinstance(one, Tensor) and one.is_floating_point() and one.numel() > 0
        if floats and bool(one.isnan().all()):
            raise PrunerError("evaluate: the outputs are not finite: NaN throughout")


def _compute_all(metric: Metric, task: Task) -> dict[str, float]:
    """Return a metric's values by their keys; PrunerError where one says nothing."""
    with explain_failure(task.name, f"metric {metric.kind.name}"):
        values = metric.compute_all()
    for kind, value in values.items():
        if not math.isfinite(value):
            raise PrunerError(f"evaluate: {kind.name} is {value}: the outputs are not finite")
    return {kind.key: value for kind, value in values.items()}


def _to_cpu(values: Any, task: Task, single: bool = True) -> Any:
    """Return outputs or targets on the CPU, floating ones in single precision if asked for."""

    def move(x: Tensor) -> Tensor:
        if x.is_meta:
            raise PrunerError(
                f"evaluate: task {task.name!r} got a tensor on meta: it has no numbers"
            )
        return (x.float() if single and x.is_floating_point() else x).cpu()

    return pytree.tree_map_only(Tensor, move, values)
