"""make_task: a task of the user's own functions."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from torch import Tensor, nn

from ..data import wrap_datasets
from ..errors import PrunerError
from ..utils import wrong_value
from .base import Task
from .divergence import compare_outputs, compare_scores, compare_values
from .metric import MeanMetric, Metric, MetricKind
from .total import Total

Divergence = Literal["scores", "values", "auto"] | Callable[[Any, Any, float], Total]


def make_task(
    *,
    data: Any = None,
    loss: Callable[[Any, Any], Tensor | Mapping[str, Tensor]] | None = None,
    metric: Callable[[], Metric] | tuple[MetricKind, Callable[[Any, Any], Tensor]] | None = None,
    divergence: Divergence = "auto",
    forward: Callable[[nn.Module, Any, Any], Any] | None = None,
    read: Callable[[Any], Any] | None = None,
    weights: Mapping[str, float] | None = None,
    name: str = "custom",
) -> Task:
    """Make a task of functions; without any it compares outputs to the dense network's.

    Args:
        data: Training and test batches (`pruner.data.TaskData`), or data sets of torch, such as a
            pair (train, test); see `pruner.data.wrap_datasets`.
        loss: From outputs and targets to what training minimizes, a mean over the batch: a scalar,
            or several by name.
        metric: Makes a new accumulator; or what the figure means, and the function from outputs
            and targets to one figure a prediction, whose mean is the metric.
        divergence: ``"scores"``: outputs are class scores (KL); ``"values"``: anything else
            (relative squared error); ``"auto"``: as `pruner.tasks.compare_outputs` tells; or a
            function of outputs, the dense network's, and temperature.
        forward: Calls a network: (module, inputs, targets) -> outputs; see `Task.forward`.
        read: Takes what counts out of what the network returns.
        weights: Of several losses by name.
        name: In messages and cache keys: with another name, what was computed is not used again.
    """
    made: Task = _FunctionTask() if loss is None else _TrainedTask(loss)
    made.data = None if data is None else wrap_datasets(data)
    made.name, made.weights = name, dict(weights or {})
    assert isinstance(made, _FunctionTask)
    made.functions = {"metric": metric, "divergence": divergence, "forward": forward, "read": read}
    if isinstance(divergence, str) and divergence not in _COMPARISONS:
        raise wrong_value("divergence", f"a function or one of {sorted(_COMPARISONS)}", divergence)
    return made


def _compare_by_value(outputs: Any, dense: Any, temperature: float) -> Total:
    return compare_values(outputs, dense)


_COMPARISONS: dict[str, Callable[[Any, Any, float], Total]] = {
    "auto": compare_outputs, "scores": compare_scores, "values": _compare_by_value,
}  # fmt: skip


class _FunctionTask(Task):
    """Asks functions, where they are given."""

    functions: Mapping[str, Any]

    def forward(self, module: nn.Module, inputs: Any, targets: Any = None) -> Any:
        own = self.functions["forward"]
        return super().forward(module, inputs) if own is None else own(module, inputs, targets)

    @property
    def calls_once(self) -> bool:
        return self.functions["forward"] is None

    def read(self, results: Any) -> Any:
        own = self.functions["read"]
        return super().read(results) if own is None else own(results)

    def divergence(self, outputs: Any, dense: Any, temperature: float = 1.0) -> Total:
        own = self.functions["divergence"]
        found = (_COMPARISONS[own] if isinstance(own, str) else own)(outputs, dense, temperature)
        if not isinstance(found, Total):
            raise PrunerError(
                f"task {self.name!r}: divergence gave a {type(found).__name__}, expected a "
                "pruner.tasks.Total: the sum over predictions and their number"
            )
        return found

    def metric(self) -> Metric | None:
        own = self.functions["metric"]
        return MeanMetric(*own) if isinstance(own, tuple) else None if own is None else own()


class _TrainedTask(_FunctionTask):
    """With a loss."""

    def __init__(self, loss: Callable[[Any, Any], Tensor | Mapping[str, Tensor]]) -> None:
        self._loss = loss

    def loss(self, outputs: Any, targets: Any) -> Tensor | Mapping[str, Tensor]:
        return self._loss(outputs, targets)
