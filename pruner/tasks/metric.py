"""Metric: what a task is judged by, accumulated over batches and processes."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import PrunerError
from .total import Total


@dataclass(frozen=True)
class MetricKind:
    """What a metric's value means, and how it is shown.

    Attributes:
        name: In words, ``"accuracy"``.
        unit: ``"%"`` of a share from 0 to 1, which is shown as a percentage; else what the number
            is of, ``"m"``, or nothing.
        higher_is_better: Which direction is better.
    """

    name: str
    unit: str = "%"
    higher_is_better: bool = True

    @property
    def key(self) -> str:
        """The name as files have it: ``mean_iou``."""
        return re.sub(r"[\W_]+", "_", self.name.lower()).strip("_")

    def format(self, value: float) -> str:
        """Return a value as text: ``83.1%``, ``0.214 m``."""
        if self.unit == "%":
            return f"{value:.1%}"
        return f"{value:.4g}" + (f" {self.unit}" if self.unit else "")


class Metric(ABC):
    """An accumulator over batches; a fresh one is made for every evaluation.

    Attributes:
        kind: What the value means.
        needs_dense: Whether `update` takes the dense network's outputs in the targets' place.
    """

    kind: MetricKind
    needs_dense: bool = False

    @property
    def kinds(self) -> tuple[MetricKind, ...]:
        """What the values of `compute_all` mean, the main one first."""
        return (self.kind,)

    @abstractmethod
    def update(self, outputs: Any, targets: Any) -> None:
        """Add a batch: what the task's forward returned, on the CPU, and the targets."""

    def add(self, outputs: Any, targets: Any, dense: Any = None) -> None:
        """Add a batch with targets and, where it `needs_dense`, the dense network's outputs."""
        self.update(outputs, dense if self.needs_dense else targets)

    @abstractmethod
    def compute(self) -> float:
        """Return the value over all that was added; PrunerError where that says nothing."""

    def compute_all(self) -> Mapping[MetricKind, float]:
        """Return this value, the main one, and those of other metrics that go along with it."""
        return {self.kind: self.compute()}

    @property
    def running(self) -> MeanMetric | None:
        """What of it is known of training batches one by one: a mean over predictions, or None."""
        return None

    @abstractmethod
    def state(self) -> Any:
        """Return what was added, as plain data that another process can take."""

    @abstractmethod
    def merge(self, state: Any) -> None:
        """Add what a metric in another process has seen, by its `state`."""


class _RunningMean(Metric):
    """A sum over predictions and their number."""

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    def compute(self) -> float:
        """Divide the sum by the number of predictions."""
        if not self.count:
            raise PrunerError(f"metric {self.kind.name}: there was nothing to measure it on")
        return self.total / self.count

    def state(self) -> Any:
        """Return the sum and the number."""
        return self.total, self.count

    def merge(self, state: Any) -> None:
        """Add another sum and number."""
        self.total, self.count = self.total + state[0], self.count + state[1]


class _MeasuredMean(_RunningMean):
    """The mean of what a function measures of every prediction."""

    def __init__(self, kind: MetricKind, measure: Callable[[Any, Any], Tensor]) -> None:
        """Take the function from outputs and targets to one figure a prediction, any shape."""
        super().__init__()
        self.kind, self.measure = kind, measure

    def update(self, outputs: Any, targets: Any) -> None:
        """Add a batch's figures."""
        values = self.measure(outputs, targets)
        self.merge((float(values.double().sum()), values.numel()))


class MeanMetric(_MeasuredMean):
    """The mean of a figure that every prediction has, such as whether it is right.

    It is shown while a network is trained, too.
    """

    @property
    def running(self) -> MeanMetric:
        """Itself."""
        return self


class RootMeanMetric(_MeasuredMean):
    """The square root of the mean of a figure that every prediction has, such as a square."""

    def compute(self) -> float:
        """Take the root of the mean."""
        return math.sqrt(super().compute())


class DivergenceMetric(_RunningMean):
    """The mean divergence from the dense network's outputs, for tasks without labels."""

    kind = MetricKind("divergence from dense", "", higher_is_better=False)
    needs_dense = True

    def __init__(self, compare: Callable[[Any, Any], Total]) -> None:
        """Take a task's divergence."""
        super().__init__()
        self.compare = compare

    def update(self, outputs: Any, targets: Any) -> None:
        """Add a batch's divergence."""
        found = self.compare(outputs, targets)
        self.merge((float(found.value), found.count))


class LibraryMetric(Metric):
    """A metric of the torchmetrics library."""

    def __init__(
        self,
        kind: MetricKind,
        metric: Any,
        read: Callable[[Any, Any], tuple[Any, ...]] = lambda outputs, targets: (outputs, targets),
        entry: str | None = None,
    ) -> None:
        """Wrap an object of torchmetrics.

        Args:
            kind: What its value means.
            metric: The object.
            read: From outputs and targets to the arguments of its ``update``.
            entry: Which of its values counts, where it computes several by name.
        """
        self.kind, self.metric, self.read, self.entry = kind, metric, read, entry

    def update(self, outputs: Any, targets: Any) -> None:
        """Add a batch."""
        self.metric.update(*self.read(outputs, targets))

    def compute(self) -> float:
        """Compute it; PrunerError where it saw nothing or is not finite."""
        if not self.metric.update_called:
            raise PrunerError(f"metric {self.kind.name}: there was nothing to measure it on")
        found = self.metric.compute()
        value = float(found if self.entry is None else found[self.entry])
        if not math.isfinite(value):
            raise PrunerError(f"metric {self.kind.name} is {value} on these samples")
        return value

    def state(self) -> Any:
        """Return the states by name, and whether there are any."""
        return self.metric.metric_state, bool(self.metric.update_called)

    def merge(self, state: Any) -> None:
        """Add another's states."""
        if state[1]:
            self.metric.merge_state(state[0])


class CollectedMetric(Metric):
    """A metric of all samples together, such as a rank among them: it keeps what it needs."""

    def __init__(
        self,
        kind: MetricKind,
        keep: Callable[[Any, Any], tuple[Tensor, ...]],
        measure: Callable[..., float | Tensor],
        needs_dense: bool = False,
    ) -> None:
        """Take what is kept of a batch, and what is computed of all in the end.

        Args:
            kind: What the value means.
            keep: From outputs and targets to tensors, each joined along axis 0 over batches.
            measure: From these tensors of all batches to the value.
            needs_dense: Targets are the dense network's outputs.
        """
        self.kind, self.keep, self.measure, self.needs_dense = kind, keep, measure, needs_dense
        self.parts: list[tuple[Tensor, ...]] = []

    def update(self, outputs: Any, targets: Any) -> None:
        """Keep what counts of a batch."""
        self.parts.append(tuple(part.detach().cpu() for part in self.keep(outputs, targets)))

    def compute(self) -> float:
        """Compute it of all; PrunerError where there was nothing or it is not finite."""
        if not any(len(part) for parts in self.parts for part in parts):
            raise PrunerError(f"metric {self.kind.name}: there was nothing to measure it on")
        value = float(self.measure(*(torch.cat(some) for some in zip(*self.parts, strict=True))))
        if not math.isfinite(value):
            raise PrunerError(f"metric {self.kind.name} is {value} on these samples")
        return value

    def state(self) -> Any:
        """Return what is kept."""
        return self.parts

    def merge(self, state: Any) -> None:
        """Keep what another one has kept, too."""
        self.parts += state


class GroupMetric(Metric):
    """Several metrics, of which the first is the main one."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        """Take the metrics, the main one first; either all or none need the dense outputs."""
        self.metrics = tuple(metrics)
        self.kind, self.needs_dense = metrics[0].kind, metrics[0].needs_dense

    def update(self, outputs: Any, targets: Any) -> None:
        """Add a batch to all."""
        for metric in self.metrics:
            metric.update(outputs, targets)

    @property
    def kinds(self) -> tuple[MetricKind, ...]:
        """Of all."""
        return tuple(kind for metric in self.metrics for kind in metric.kinds)

    def compute(self) -> float:
        """Compute the main one."""
        return self.metrics[0].compute()

    def compute_all(self) -> Mapping[MetricKind, float]:
        """Compute all."""
        return {k: v for metric in self.metrics for k, v in metric.compute_all().items()}

    @property
    def running(self) -> MeanMetric | None:
        """That of the main one."""
        return self.metrics[0].running

    def state(self) -> Any:
        """Return the states of all."""
        return [metric.state() for metric in self.metrics]

    def merge(self, state: Any) -> None:
        """Add other states."""
        for metric, one in zip(self.metrics, state, strict=True):
            metric.merge(one)
