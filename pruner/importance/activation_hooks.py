"""Base of criteria that look at every sample by itself, through hooks on the layers.

The gradient of a batch's mean loss by a weight mixes the samples. What flows through a layer does
not: for a layer y = f(x; w) and one sample s, with every sum over the sample's positions,

    closing what the layer writes at channel i:  sum(y_si * dL_s/dy_si)
    closing what the layer reads at channel i:   sum(x_si * dL_s/dx_si), along this layer alone

Summed over samples these are w * dL/dw of `pruner.importance.taylor`, to the last digit.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..gates import differentiate_gates
from ..graph import BatchNorm, Convolution
from ..structure import Slot
from .base import Criterion, Subject


class SampleCriterion(Criterion):
    """A criterion on y * dL/dy a sample; a subclass selects slots and estimates the rise."""

    needs = "gradients"

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], Tensor] = {}  # (layer, side) -> [samples, channels]
        self._samples = 1

    @contextmanager
    def watch(self, subject: Subject, slots: Iterable[Slot]) -> Iterator[None]:
        """Hook every layer that a slot's values can be seen at, and take the hooks off again."""
        self._seen = {}
        handles = []
        keys = dict.fromkeys(_find_values(subject, slot) for slot in slots)
        for name, side in filter(None, keys):
            layer = subject.module.get_submodule(name)
            if side == "in":
                handles.append(layer.register_forward_pre_hook(partial(self._see_input, name)))
            else:
                handles.append(layer.register_forward_hook(partial(self._see_output, name)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._seen = {}

    def contribution(self, subject: Subject, slot: Slot) -> Tensor:
        """Return [samples, axis size] where the layer can be hooked, else the batch's [1, ...]."""
        key = _find_values(subject, slot)
        if key is None:
            parameter = subject.parameters[slot.tensor]
            gradient = subject.gradients.get(slot.tensor)
            return differentiate_gates(parameter, gradient, slot.axis)[None]
        found = self._seen.get(key)
        # The layer's weight and bias are seen together: the weight speaks for both.
        if found is None or slot.tensor.rpartition(".")[2] == "bias":
            return torch.zeros(1, len(slot.owner))
        return found

    def begin_batch(self, samples: int) -> None:
        """Forget the batch before."""
        self._seen.clear()
        self._samples = samples

    def _see_input(self, name: str, layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        # A view of its own: its gradient is that of this reader, not of all of them.
        own = inputs[0].view_as(inputs[0])
        self._record((name, "in"), layer, inputs[0], own)
        return (own, *inputs[1:])

    def _see_output(self, name: str, layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        self._record((name, "out"), layer, output, output)
        return output.clone()  # an in-place activation must not write over what is recorded

    def _record(
        self, key: tuple[str, str], layer: nn.Module, values: Tensor, graph: Tensor
    ) -> None:
        """Add up values times their gradient, once the backward pass reaches graph."""
        kept, axis = values.detach(), channel_axis(layer, values)
        samples = self._count_rows(values)

        def receive(gradient: Tensor) -> None:
            # The loss is the samples' mean: times their number, each has the gradient of its own.
            self._accumulate(key, kept * gradient * samples, axis)

        if graph.requires_grad:
            graph.register_hook(receive)

    def _accumulate(self, key: tuple[str, str], values: Tensor, axis: int) -> None:
        """Sum over each sample's positions; a layer that runs twice is seen twice."""
        rows = values.double().movedim(axis, -1)
        rows = rows.reshape(self._count_rows(values), -1, rows.shape[-1]).sum(1)
        self._seen[key] = self._seen[key] + rows if key in self._seen else rows

    def _count_rows(self, values: Tensor) -> int:
        """Return the samples that can be told apart: one where rows are no samples (regions)."""
        return self._samples if len(values) % self._samples == 0 else 1


def channel_axis(layer: nn.Module, values: Tensor) -> int:
    """Return the axis of the channels in what a layer reads or writes."""
    return values.ndim - 1 if isinstance(layer, nn.Linear) else 1


def _find_values(subject: Subject, slot: Slot) -> tuple[str, str] | None:
    """Name the layer and side, "in" or "out", that a slot's values can be seen at, if any."""
    layer = subject.find_layer(slot.tensor)
    name, _, kind = slot.tensor.rpartition(".")
    if kind not in ("weight", "bias"):
        return None
    if isinstance(layer, BatchNorm):
        return name, "out"
    if not isinstance(layer, (Convolution, nn.Linear)) or getattr(layer, "transposed", False):
        return None
    if slot.axis == 0:
        return name, "out"
    return (name, "in") if getattr(layer, "groups", 1) == 1 else None
