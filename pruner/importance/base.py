"""The protocol that a criterion fills in, and the base class of the element-wise ones.

A criterion answers two questions: which tensors speak for a Dim, and what each position of their
axis contributes. `score` does the rest: it folds positions onto the Dim's indices and the
contributions of all coupled tensors into one score an index.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import PrunerError
from ..structure import Dim, Slot


@dataclass(frozen=True)
class Subject:
    """The network under the criterion.

    module is in evaluation mode; parameters are its parameters by their ``state_dict`` name;
    gradients holds those of the present batch under the same names (empty without data).
    """

    module: nn.Module
    parameters: Mapping[str, Tensor]
    gradients: dict[str, Tensor]

    def holder(self, tensor: str) -> nn.Module:
        """The module that a tensor is an attribute of."""
        return self.module.get_submodule(tensor.rpartition(".")[0])


class Criterion(ABC):
    """One way to estimate what an index of a Dim is worth.

    name is what the user types. needs says what it looks at: ``"weights"`` (no data),
    ``"gradients"`` (of the loss, batch by batch) or ``"activations"`` (forward passes only).
    """

    name: str
    needs: str = "weights"

    @abstractmethod
    def slots(self, subject: Subject, dim: Dim) -> Sequence[Slot]:
        """The Dim's slots that speak for it; those of parameters only."""

    @abstractmethod
    def contribution(self, subject: Subject, slot: Slot) -> Tensor:
        """What each position of slot's axis contributes, signed: float [n, axis size].

        n rows are n independent observations (the samples of a batch); without data, one row.
        """

    def watch(self, subject: Subject, slots: Iterable[Slot]) -> AbstractContextManager[object]:
        """Within this context batches run: the place to hang hooks on modules and take them off."""
        return nullcontext()

    def rise(self, total: Tensor) -> Tensor:
        """Estimated rise of the loss from the signed sums over a Dim's tensors, [n, dim size]."""
        return total.abs()


class Elementwise(Criterion):
    """A criterion in which every element of a parameter contributes by itself."""

    @abstractmethod
    def elements(self, name: str, parameter: Tensor, gradient: Tensor | None) -> Tensor:
        """What each element contributes, signed, in the parameter's shape."""

    def contribution(self, subject: Subject, slot: Slot) -> Tensor:
        """Sum of the elements over all axes but the slot's."""
        parameter = subject.parameters[slot.tensor]
        values = self.elements(slot.tensor, parameter, subject.gradients.get(slot.tensor))
        return sum_to_axis(values, slot.axis)[None]

    def slots(self, subject: Subject, dim: Dim) -> Sequence[Slot]:
        """The parameters that write the Dim's channels."""
        return writers(subject, dim)


def sum_to_axis(values: Tensor, axis: int) -> Tensor:
    """Sum in double precision over all axes but one: float64 [axis size]."""
    return (
        values.double().movedim(axis, 0).flatten(1).sum(1) if values.ndim > 1 else values.double()
    )


def fold(values: Tensor, owner: np.ndarray, size: int) -> Tensor:
    """Sum positions onto the indices that own them: [n, axis size] -> [n, size]; -1 owns none."""
    if values.ndim != 2 or values.shape[1] != len(owner):
        raise PrunerError(
            f"a criterion gave contributions of shape {tuple(values.shape)}; "
            f"expected (n, {len(owner)})"
        )
    index = torch.as_tensor(np.asarray(owner, np.int64))
    kept = index >= 0
    return values.new_zeros(len(values), size).index_add_(1, index[kept], values[:, kept])


def parameter_slots(subject: Subject, dim: Dim, *roles: str) -> list[Slot]:
    """The Dim's slots in parameters (statistics are left out) that have one of the roles."""
    return [s for s in dim.slots if s.tensor in subject.parameters and s.role in roles]


def writers(subject: Subject, dim: Dim) -> list[Slot]:
    """Slots of role "out"; where a Dim has none, whatever parameters it has.

    A Dim that nothing writes (a learned position table, say) still needs a score.
    """
    found = parameter_slots(subject, dim, "out")
    return found or parameter_slots(subject, dim, "norm", "other", "in")


def readers(subject: Subject, dim: Dim) -> list[Slot]:
    """Slots of role "in"; where nothing with weights reads the Dim (queries and keys), writers."""
    return parameter_slots(subject, dim, "in") or writers(subject, dim)


UserCriterion = Callable[[str, Tensor, "Tensor | None"], Tensor]


class Custom(Elementwise):
    """The user's own function (name, parameter, gradient or None) -> contributions, same shape."""

    def __init__(self, function: UserCriterion, *, with_data: bool) -> None:
        self.function = function
        self.name = str(getattr(function, "__name__", type(function).__name__))
        self.needs = "gradients" if with_data else "weights"

    def elements(self, name: str, parameter: Tensor, gradient: Tensor | None) -> Tensor:
        """What the user's function says."""
        return self.function(name, parameter, gradient)
