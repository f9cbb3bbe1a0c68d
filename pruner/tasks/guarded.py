"""GuardedTask: the user's own task, whose failures are told in one line that names it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ..errors import PrunerError, first_line
from .base import Call
from .metric import Metric
from .mixup import Mixture
from .total import Total
from .wrapped import WrappedTask


@contextmanager
def explain_failure(name: str, what: str) -> Iterator[None]:
    """Turn what a user's code raises within into a PrunerError that names task and method."""
    try:
        yield
    except PrunerError:
        raise
    except Exception as error:  # whatever the user's code raises
        raise PrunerError(f"task {name!r}: {what} failed: {first_line(error)}") from error


class GuardedTask(WrappedTask):
    """A task of the user's own."""

    def forward(self, module: nn.Module, inputs: Any, targets: Any = None) -> Any:
        """Call a network; PrunerError where that fails."""
        with explain_failure(self.name, "calling the network on a batch"):
            return self.task.forward(module, inputs, targets)

    def list_calls(self, module: nn.Module, inputs: Any) -> list[Call]:
        """Find out the calls of a network; PrunerError where that fails."""
        with explain_failure(self.name, "calling the network on a batch"):
            return self.task.list_calls(module, inputs)

    def complete(
        self, results: Sequence[Any], inputs: Any, module: nn.Module | None = None,
        arguments: Sequence[tuple[Any, ...]] = (),
    ) -> Any:  # fmt: skip
        """Return the outputs of given results; PrunerError where that fails."""
        with explain_failure(self.name, "reading the network's results"):
            return self.task.complete(results, inputs, module, arguments)

    def loss(self, outputs: Any, targets: Any) -> Tensor | Mapping[str, Tensor]:
        """Return the loss; PrunerError where it fails."""
        with explain_failure(self.name, "loss"):
            return self.task.loss(outputs, targets)

    def mean_loss(self, outputs: Any, targets: Any, smoothing: float = 0.0) -> Tensor:
        """Return the sum of the losses; PrunerError where one fails."""
        with explain_failure(self.name, "loss"):
            return self.task.mean_loss(outputs, targets, smoothing)

    def total_loss(self, outputs: Any, targets: Any) -> Total | None:
        """Return the loss to average; PrunerError where it fails."""
        with explain_failure(self.name, "loss"):
            return self.task.total_loss(outputs, targets)

    def mix_targets(self, targets: Any, outputs: Any, mixture: Mixture) -> Any:
        """Mix targets; PrunerError where that fails."""
        with explain_failure(self.name, "mixing targets"):
            return self.task.mix_targets(targets, outputs, mixture)

    def divergence(self, outputs: Any, dense: Any, temperature: float = 1.0) -> Total:
        """Compare outputs; PrunerError where that fails."""
        with explain_failure(self.name, "divergence"):
            return self.task.divergence(outputs, dense, temperature)

    def metric(self) -> Metric | None:
        """Make an accumulator; PrunerError where that fails."""
        with explain_failure(self.name, "metric"):
            return self.task.metric()

    def check(self, outputs: Any, targets: Any) -> None:
        """Check targets; PrunerError where that fails, too."""
        with explain_failure(self.name, "check"):
            self.task.check(outputs, targets)
