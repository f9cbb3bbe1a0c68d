"""Task: what a network is for; scores, trials, distillation and evaluation ask it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..data import TaskData, count_samples
from ..errors import PrunerError
from ..graph import evaluation_mode, find_device, move_to_device
from ..utils import digest_json
from .divergence import compare_outputs
from .metric import DivergenceMetric, Metric
from .records import to_record
from .total import Total

if TYPE_CHECKING:
    from .mixup import Mixture

T = TypeVar("T", bound="Task")
Call = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments of one call of a network."""


class Task:
    """What a network is for: its data, and how its outputs are judged, with labels and without.

    As it stands it has no labels: what it knows is how far outputs are from the dense network's. A
    subclass overrides what it knows better; `pruner.tasks.make_task` makes one of functions.

    Attributes:
        name: What it is called in messages.
        data: Training and test batches of (inputs, targets); None where the caller hands them over.
        target: Batches of a second domain, whose inputs alone count, for criteria that look at
            both; None where there is none.
        weights: Of the losses by name, where `loss` gives several; 1 each that is not listed.
    """

    name: str = "task"
    data: TaskData | None = None
    target: TaskData | None = None
    weights: Mapping[str, float] = {}

    def forward(self, module: nn.Module, inputs: Any, targets: Any = None) -> Any:
        """Call a network on a batch and return the outputs that all other methods look at.

        By default inputs are positional arguments where they are a tuple, keyword arguments where
        they are a dict, and one argument else, moved to the network's device; and outputs are
        `read`. A network in training mode may be given the targets, where it computes its own
        losses.
        """
        args, kwargs = to_call(inputs, find_device(module))
        return self.read(module(*args, **kwargs))

    def read(self, results: Any) -> Any:
        """Take out of what a network returns what counts; by default all, a dataclass as a dict."""
        return to_record(results)

    def loss(self, outputs: Any, targets: Any) -> Tensor | Mapping[str, Tensor]:
        """Return what training minimizes, a mean over the batch: a scalar, or several by name."""
        raise PrunerError(
            f"task {self.name!r} has no loss: it compares outputs to the dense network's. Give a "
            "task with one, or choose a criterion and a recipe that need none (measured, distill 1)"
        )

    @property
    def has_loss(self) -> bool:
        """Whether there are labels to learn from."""
        return type(self).loss is not Task.loss

    def mean_loss(self, outputs: Any, targets: Any, smoothing: float = 0.0) -> Tensor:
        """Return the weighted sum of all losses; PrunerError where smoothing means nothing."""
        if smoothing:
            raise PrunerError(f"label_smoothing: task {self.name!r} cannot smooth; set it to 0")
        found = self.loss(outputs, targets)
        losses = found if isinstance(found, Mapping) else {"": found}
        for name, value in losses.items():
            if not isinstance(value, Tensor) or value.numel() != 1:
                given = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
                called = f"loss {name}" if name else "the loss"
                raise PrunerError(
                    f"task {self.name!r}: {called} is {given}, expected a tensor of one number: "
                    "the mean over the batch"
                )
        if isinstance(found, Tensor):
            return found
        return torch.stack([self.weights.get(k, 1.0) * v for k, v in found.items()]).sum()

    def total_loss(self, outputs: Any, targets: Any) -> Total | None:
        """Return the loss of outputs in evaluation mode, to average over batches.

        None where there is no loss, or where it needs what only training mode computes.
        """
        if not self.has_loss:
            return None
        count = count_samples(targets) or count_samples(outputs)
        return Total(self.mean_loss(outputs, targets) * count, count)

    def mix_targets(self, targets: Any, outputs: Any, mixture: Mixture) -> Any:
        """Mix targets as the samples were mixed (mixup); PrunerError where that means nothing."""
        raise PrunerError(f"mixup: targets of task {self.name!r} cannot be mixed; set it to 0")

    def divergence(self, outputs: Any, dense: Any, temperature: float = 1.0) -> Total:
        """Return how far outputs are from the dense network's, by kind (see `compare_outputs`)."""
        return compare_outputs(outputs, dense, temperature)

    def metric(self) -> Metric | None:
        """Return a new accumulator; None: the mean divergence from dense is what counts."""
        return None

    def judge(self) -> Metric:
        """Return a new accumulator: the metric, or the mean divergence from dense."""
        return self.metric() or DivergenceMetric(self.divergence)

    def check(self, outputs: Any, targets: Any) -> None:
        """Raise one clear PrunerError where targets do not fit the outputs."""

    def fingerprint(self) -> str:
        """Return a digest of the task, its settings and data, for cache keys and checkpoints."""
        return digest_json([self.name, self.settings(), self.fingerprint_data()])

    def settings(self) -> Mapping[str, Any]:
        """Return what sets this task apart from others of its name, JSON-encodable."""
        return {"weights": dict(self.weights)} if self.weights else {}

    def fingerprint_data(self) -> str:
        """Return the digest of the data, "" without any."""
        return "" if self.data is None else self.require_data().fingerprint()

    def with_data(self: T, data: TaskData) -> T:
        """Return the same task on other data."""
        other = copy.copy(self)
        other.data = data
        return other

    def require_data(self) -> TaskData:
        """Return the data; PrunerError where there is none."""
        if self.data is None:
            raise PrunerError(f"task {self.name!r} has no data: give some (--data)")
        verbs = ("train", "test", "fingerprint")
        if not all(callable(getattr(self.data, verb, None)) for verb in verbs):
            raise PrunerError(
                f"task {self.name!r}: its data is a {type(self.data).__name__}, expected training "
                "and test batches: pruner.data.wrap_datasets makes them of data sets"
            )
        return self.data

    def with_target(self: T, target: TaskData | None) -> T:
        """Return the same task with a second domain."""
        other = copy.copy(self)
        other.target = target
        return other

    def split(self) -> Mapping[str, Task]:
        """Return the tasks that this one is made of, by name, each alone on the same data.

        Empty where it is not made of tasks.
        """
        return {}

    @property
    def calls_once(self) -> bool:
        """Whether `forward` does nothing but call the network with the inputs, and `read`."""
        return type(self).forward is Task.forward

    def list_calls(self, module: nn.Module, inputs: Any) -> list[Call]:
        """Return the arguments of every call of the network that `forward` makes on inputs."""
        if self.calls_once:
            return [to_call(inputs, find_device(module))]
        return record_calls(self, module, module, inputs)

    def complete(
        self, results: Sequence[Any], inputs: Any, module: nn.Module | None = None,
        arguments: Sequence[tuple[Any, ...]] = (),
    ) -> Any:  # fmt: skip
        """Return what `forward` does on inputs if the network's calls return these in turn.

        Args:
            results: One a call.
            inputs: Of the batch.
            module: The network that they are of, for tasks that call only parts of it at a time.
            arguments: What it was called with, nested ones taken apart.
        """
        return self.forward(Replay(results), inputs)


def to_call(inputs: Any, device: torch.device) -> Call:
    """Return a batch's inputs as arguments on a device."""
    if isinstance(inputs, Mapping) and not isinstance(inputs, dict):
        inputs = dict(inputs)  # what tokenizers of Hugging Face give
    moved = move_to_device(inputs, device)
    if isinstance(moved, dict):
        return (), moved
    return (moved if isinstance(moved, tuple) else (moved,)), {}


def record_calls(task: Task, module: nn.Module, watched: nn.Module, inputs: Any) -> list[Call]:
    """Run a module as a task does and return the arguments of every call of a module within it."""
    calls: list[Call] = []

    def record(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append((copy_tensors(args), copy_tensors(kwargs)))

    handle = watched.register_forward_pre_hook(record, with_kwargs=True)
    try:
        with torch.no_grad(), evaluation_mode(module):
            task.forward(module, inputs)
    finally:
        handle.remove()
    return calls


def copy_tensors(values: Any) -> Any:
    """Copy all tensors of a nesting: what calls a network may write over them afterwards."""
    return pytree.tree_map_only(Tensor, Tensor.clone, values)


class Replay(nn.Module):
    """A network that returns given results, one a call."""

    def __init__(self, results: Sequence[Any]) -> None:
        super().__init__()
        self.results = list(results)
        # Of no size, but where the results are: inputs are moved to a network's parameters.
        first = next((x for x in pytree.tree_leaves(self.results) if isinstance(x, Tensor)), None)
        if first is not None:
            self.place = nn.Parameter(first.new_empty(0, dtype=torch.float32), False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the next result."""
        return self.results.pop(0)


class TaskModule(nn.Module):
    """A network that is called as its task calls it, so that wrappers of modules see the call."""

    def __init__(self, task: Task, module: nn.Module) -> None:
        super().__init__()
        self.task, self.module = task, module

    def forward(self, inputs: Any, targets: Any = None) -> Any:
        """Return the outputs of a batch."""
        return self.task.forward(self.module, inputs, targets)
