"""WrappedTask: a task that asks another one, but for what a subclass does otherwise."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

from ..data import TaskData
from .base import Call, Task
from .metric import Metric
from .mixup import Mixture
from .total import Total

T = TypeVar("T", bound="WrappedTask")


class WrappedTask(Task):
    """All of another task's answers; a subclass overrides some."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.name, self.data, self.weights = task.name, task.data, task.weights
        self.target = task.target

    def forward(self, module: nn.Module, inputs: Any, targets: Any = None) -> Any:
        """Ask the other task."""
        return self.task.forward(module, inputs, targets)

    def read(self, results: Any) -> Any:
        """Ask the other task."""
        return self.task.read(results)

    def loss(self, outputs: Any, targets: Any) -> Tensor | Mapping[str, Tensor]:
        """Ask the other task."""
        return self.task.loss(outputs, targets)

    @property
    def has_loss(self) -> bool:
        """Whether the other task has."""
        return self.task.has_loss

    def mean_loss(self, outputs: Any, targets: Any, smoothing: float = 0.0) -> Tensor:
        """Ask the other task."""
        return self.task.mean_loss(outputs, targets, smoothing)

    def total_loss(self, outputs: Any, targets: Any) -> Total | None:
        """Ask the other task."""
        return self.task.total_loss(outputs, targets)

    def mix_targets(self, targets: Any, outputs: Any, mixture: Mixture) -> Any:
        """Ask the other task."""
        return self.task.mix_targets(targets, outputs, mixture)

    def divergence(self, outputs: Any, dense: Any, temperature: float = 1.0) -> Total:
        """Ask the other task."""
        return self.task.divergence(outputs, dense, temperature)

    def metric(self) -> Metric | None:
        """Ask the other task."""
        return self.task.metric()

    def check(self, outputs: Any, targets: Any) -> None:
        """Ask the other task."""
        self.task.check(outputs, targets)

    def fingerprint(self) -> str:
        """Ask the other task."""
        return self.task.fingerprint()

    def settings(self) -> Mapping[str, Any]:
        """Ask the other task."""
        return self.task.settings()

    def with_data(self: T, data: TaskData) -> T:
        """Return the same on other data."""
        other = copy.copy(self)
        other.task = self.task.with_data(data)
        other.data = data
        return other

    def with_target(self: T, target: TaskData | None) -> T:
        """Return the same with a second domain."""
        other = copy.copy(self)
        other.task = self.task.with_target(target)
        other.target = target
        return other

    def split(self) -> dict[str, Task]:
        """Return the other task's parts, each in place of it."""
        return {name: self._replace(part) for name, part in self.task.split().items()}

    def _replace(self, task: Task) -> Task:
        other = copy.copy(self)
        other.task, other.name, other.weights = task, task.name, task.weights
        return other

    @property
    def calls_once(self) -> bool:
        """Whether the other task does."""
        return self.task.calls_once

    def list_calls(self, module: nn.Module, inputs: Any) -> list[Call]:
        """Ask the other task."""
        return self.task.list_calls(module, inputs)
