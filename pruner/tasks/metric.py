"""Metric: what a task is judged by, accumulated over batches and processes."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
        return re.sub(r"[^a-z0-9]+", "_", self.name.lower()).strip("_")

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

    @abstractmethod
    def update(self, outputs: Any, targets: Any) -> None:
        """Add a batch: what the task's forward returned, on the CPU, and the targets."""

    @abstractmethod
    def compute(self) -> float:
        """Return the value over all that was added; PrunerError where that says nothing."""

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


class MeanMetric(_RunningMean):
    """The mean of a figure that every prediction has, such as whether it is right.

    It is shown while a network is trained, too.
    """

    def __init__(self, kind: MetricKind, measure: Callable[[Any, Any], Tensor]) -> None:
        """Take the function from outputs and targets to one figure a prediction, any shape."""
        super().__init__()
        self.kind, self.measure = kind, measure

    def update(self, outputs: Any, targets: Any) -> None:
        """Add a batch's figures."""
        values = self.measure(outputs, targets)
        self.merge((float(values.double().sum()), values.numel()))


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
