"""The protocol that a criterion fills in: which tensors speak for a Dim, what each position adds.

`score` does the rest: it sums positions onto the Dim's indices, and the contributions of all
coupled tensors into one score an index.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..data import Batch
from ..gates import sum_to_axis
from ..graph import BatchNorm, move_to_device
from ..structure import Dim, Slot
from ..tasks import Task

Loss = Callable[[Any, Any], Tensor]
"""loss(outputs, targets) -> scalar, the mean over the batch."""
Callback = Callable[[int, "int | None"], None] | None
"""Called with (steps done, steps in all or None)."""
UserCriterion = Callable[[str, Tensor, "Tensor | None"], Tensor]
"""(name, parameter, gradient or None) -> contributions in the parameter's shape."""


@dataclass(frozen=True)
class Subject:
    """The network that a criterion scores.

    Attributes:
        module: The network in evaluation mode.
        parameters: Its parameters by their ``state_dict`` name; tied ones under every name.
        task: Calls the network on a batch.
        gradients: Of the present batch's loss, by the same names; empty without data.
    """

    module: nn.Module
    parameters: Mapping[str, Tensor]
    task: Task = field(default_factory=Task)
    gradients: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def wrap(cls, module: nn.Module, task: Task | None = None) -> Subject:
        """List a module's parameters; a task of None calls it with the inputs as its arguments."""
        return cls(module, dict(module.named_parameters(remove_duplicate=False)), task or Task())

    def find_layer(self, tensor: str) -> nn.Module:
        """Return the module that holds a tensor."""
        return self.module.get_submodule(tensor.rpartition(".")[0])

    def run(self, batch: Batch) -> tuple[Any, Any]:
        """Run the module on a batch: outputs, and the targets on their device."""
        inputs, targets = move_to_device(batch, next(iter(self.parameters.values())).device)
        return self.task.forward(self.module, inputs, targets), targets

    def update_gradients(self, loss: Tensor) -> None:
        """Replace the gradients by those of a loss."""
        # A parameter tied to another is one tensor: its gradient is asked for once, for both.
        unique = list(dict.fromkeys(self.parameters.values()))
        found = dict(zip(unique, torch.autograd.grad(loss, unique, allow_unused=True)))
        by_name = {name: found[parameter] for name, parameter in self.parameters.items()}
        self.gradients.clear()
        self.gradients.update({n: g for n, g in by_name.items() if g is not None})


def select_slots(subject: Subject, dim: Dim, *roles: str) -> Sequence[Slot]:
    """Select the Dim's slots in parameters, not buffers, that have one of the roles."""
    return [s for s in dim.slots if s.tensor in subject.parameters and s.role in roles]


def select_writers(subject: Subject, dim: Dim) -> Sequence[Slot]:
    """Select slots of role "out"; where a Dim has none, whatever parameters it has.

    A Dim that nothing writes (a learned position table, say) still needs a score.
    """
    found = select_slots(subject, dim, "out")
    return found or select_slots(subject, dim, "norm", "other", "in")


def select_readers(subject: Subject, dim: Dim) -> Sequence[Slot]:
    """Select slots of role "in"; the writers where no weights read the Dim (queries and keys)."""
    return select_slots(subject, dim, "in") or select_writers(subject, dim)


def select_gates(subject: Subject, dim: Dim) -> Sequence[Slot]:
    """Select, cell by cell, the batch norm behind a writer, else the writer itself.

    A batch norm in a cell that only reads the Dim (pre-activation networks) is no gate of it: the
    writers account for the whole stream already.
    """
    writers = select_writers(subject, dim)
    cells = {slot.cell for slot in writers if slot.role == "out"}
    norms = [
        slot
        for slot in select_slots(subject, dim, "norm")
        if slot.cell is not None
        and slot.cell in cells
        and isinstance(subject.find_layer(slot.tensor), BatchNorm)
    ]
    normed = {slot.cell for slot in norms}
    return norms + [s for s in writers if s.role != "out" or s.cell not in normed]


class Criterion(ABC):
    """An estimate of what each index of a Dim is worth.

    Attributes:
        name: What the user types.
        needs: ``"weights"`` (no data), ``"gradients"`` (of the loss, batch by batch) or
            ``"activations"`` (forward passes only).
        needs_target: Whether it looks at the task's second domain, `Task.target`, too.
        measured_curves: Whether scores are its order with `measured` curves unless asked otherwise.
    """

    name: str
    needs: str = "weights"
    needs_target: bool = False
    measured_curves: bool = False

    @property
    def needs_task(self) -> bool:
        """Whether scores depend on the loss of the task."""
        return self.needs == "gradients"

    @abstractmethod
    def slots(self, subject: Subject, dim: Dim) -> Sequence[Slot]:
        """Select the Dim's slots that speak for it; those of parameters only."""

    @abstractmethod
    def contribution(self, subject: Subject, slot: Slot) -> Tensor:
        """Compute what each position of a slot's axis contributes, signed: [n, axis size].

        The n rows are independent observations (the samples of a batch); without data, one.
        """

    def watch(self, subject: Subject, slots: Iterable[Slot]) -> AbstractContextManager[object]:
        """Hook what must be seen of the batches that run within this context."""
        return nullcontext()

    def begin_batch(self, samples: int) -> None:
        """Take note of the samples of the batch that runs next."""
        return

    def rise(self, total: Tensor) -> Tensor:
        """Estimate the rise of the loss from a Dim's signed sums over tensors: [n, dim size]."""
        return total.abs()


class Elementwise(Criterion):
    """A criterion that sums contributions of single elements, by default of a Dim's writers."""

    slots = staticmethod(select_writers)

    @abstractmethod
    def elements(self, name: str, parameter: Tensor, gradient: Tensor | None) -> Tensor:
        """Compute what each element contributes, signed, in the parameter's shape."""

    def contribution(self, subject: Subject, slot: Slot) -> Tensor:
        """Sum the elements over all axes but the slot's: [1, axis size]."""
        parameter = subject.parameters[slot.tensor]
        values = self.elements(slot.tensor, parameter, subject.gradients.get(slot.tensor))
        return sum_to_axis(values, slot.axis)[None]


class CustomCriterion(Elementwise):
    """The user's own function as a criterion."""

    def __init__(self, function: UserCriterion, *, with_data: bool) -> None:
        self.function = function
        self.name = str(getattr(function, "__name__", type(function).__name__))
        self.needs = "gradients" if with_data else "weights"

    def elements(self, name: str, parameter: Tensor, gradient: Tensor | None) -> Tensor:
        """Call the user's function."""
        return self.function(name, parameter, gradient)
