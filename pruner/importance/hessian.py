"""Second-order scores with the Hessian itself (LeCun et al. 1990, "Optimal Brain Damage").

Multiply everything that is cut together with index i by a gate g. Parameters are linear in their
gate, so the loss has the second derivative

    d2L/dg2 = w_i^T H w_i        (w_i: the gated parameters of index i, H: the Hessian)

and at a minimum, where the first one is zero, closing the gate raises it by half of that. Products
with H cost one more backward pass each. With random signs z, one an index, w = sum_i z_i w_i and
E[z_i w_i^T H w] = w_i^T H w_i: one product estimates all indices of all Dims at once
(Hutchinson 1990), and the terms between them average out over draws and batches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..errors import PrunerError
from ..graph import evaluation_mode, move_to_device
from ..structure import Importance, Network, Slot
from ..utils import make_generator
from .base import Subject, fold, sum_to_axis
from .network_criterion import Loss, NetworkCriterion, Progress
from .taylor import gates


class Hessian(NetworkCriterion):
    """max(0, 1/2 d2L/dg2) by Hutchinson's estimate, for the gates of ``taylor``.

    draws are random directions a batch: the more, the less of other indices' curvature shows in an
    index's score. Parts of a Dim's cells are their own terms of the sum, by magnitude.
    """

    name = "hessian"
    needs = "gradients"

    def __init__(self, *, draws: int = 4) -> None:
        self.draws = draws

    def score(
        self,
        net: Network,
        batches: Iterable[tuple[Any, Any]],
        loss: Loss | None,
        progress: Progress | None = None,
    ) -> Importance:
        """See `Whole.score`."""
        if loss is None:
            raise PrunerError(f"criterion {self.name!r} needs a loss: loss(outputs, targets)")
        subject = Subject(net.module, dict(net.module.named_parameters(remove_duplicate=False)), {})
        plan = {name: list(gates(subject, dim)) for name, dim in net.dims.items()}
        sums: dict[str, dict[str, Tensor]] = defaultdict(dict)
        batches, count = list(batches), 0
        # Fused attention has no second derivative.
        with evaluation_mode(net.module, gradients=True), sdpa_kernel(SDPBackend.MATH):
            for number, (inputs, targets) in enumerate(batches):
                products = _Products(subject, loss, inputs, targets)
                for draw in range(self.draws):
                    signs = {
                        name: _signs(dim.size, number, draw, name) for name, dim in net.dims.items()
                    }
                    found = products.along(_direction(subject, plan, signs))
                    for name, slots in plan.items():
                        for slot in slots:
                            part = _folded(subject, slot, found, signs[name])
                            key = slot.cell or ""
                            sums[name][key] = sums[name].get(key, 0.0) + part
                    count += 1
                if progress is not None:
                    progress(number + 1, len(batches))
        if not count:
            raise PrunerError(f"criterion {self.name!r}: batches are empty; give at least one")
        return Importance(
            self.name, {n: _parts(sums[n], count, d.size) for n, d in net.dims.items()}
        )


class _Products:
    """Products of one batch's Hessian with directions in parameter space."""

    def __init__(self, subject: Subject, loss: Loss, inputs: Any, targets: Any) -> None:
        self.parameters = list(dict.fromkeys(subject.parameters.values()))
        device = self.parameters[0].device
        inputs, targets = move_to_device(inputs, device), move_to_device(targets, device)
        arguments = inputs if isinstance(inputs, tuple) else (inputs,)
        found = torch.autograd.grad(
            loss(subject.module(*arguments), targets),
            self.parameters,
            create_graph=True,
            allow_unused=True,
        )
        self.gradients = dict(zip(self.parameters, found))

    def along(self, direction: Mapping[Tensor, Tensor]) -> dict[Tensor, Tensor]:
        """H times a direction, parameter by parameter (those that the loss depends on)."""
        pairs = [
            (gradient, direction[p])
            for p, gradient in self.gradients.items()
            if gradient is not None and gradient.requires_grad and p in direction
        ]
        if not pairs:
            return {}
        outputs, weights = zip(*pairs)
        found = torch.autograd.grad(
            outputs, self.parameters, weights, retain_graph=True, allow_unused=True
        )
        return {p: h.detach() for p, h in zip(self.parameters, found) if h is not None}


def _signs(size: int, *keys: int | str) -> Tensor:
    dice = make_generator("hessian", *keys)
    return torch.randint(0, 2, (size,), generator=dice).double() * 2 - 1


def _at(slot: Slot, signs: Tensor) -> Tensor:
    """The sign of each position of a slot's axis; 0 for positions of nobody."""
    owner = torch.as_tensor(np.asarray(slot.owner, np.int64))
    return torch.where(owner >= 0, signs[owner.clamp(min=0)], torch.zeros(()).double())


def _direction(
    subject: Subject, plan: Mapping[str, list[Slot]], signs: Mapping[str, Tensor]
) -> dict[Tensor, Tensor]:
    direction: dict[Tensor, Tensor] = {}
    for name, slots in plan.items():
        for slot in slots:
            parameter = subject.parameters[slot.tensor]
            shape = [1] * parameter.ndim
            shape[slot.axis] = -1
            gated = parameter.detach() * _at(slot, signs[name]).to(parameter).reshape(shape)
            direction[parameter] = direction.get(parameter, 0.0) + gated  # type: ignore[operator]
    return direction


def _folded(subject: Subject, slot: Slot, found: Mapping[Tensor, Tensor], signs: Tensor) -> Tensor:
    """z_i w_i^T (H w), summed over what a slot holds of each index: float64 [dim size]."""
    parameter = subject.parameters[slot.tensor]
    if parameter not in found:
        return torch.zeros(len(signs), dtype=torch.float64)
    values = sum_to_axis(parameter.detach() * found[parameter], slot.axis).cpu()
    return fold((values * _at(slot, signs))[None], slot.owner, len(signs))[0]


def _parts(sums: Mapping[str, Tensor], count: int, size: int) -> dict[str, np.ndarray[Any, Any]]:
    if not sums:
        return {"": np.zeros(size)}
    means = {cell: total.numpy() / count for cell, total in sums.items()}
    rise = np.maximum(0.5 * sum(means.values()), 0.0)
    weight = sum(np.abs(mean) for mean in means.values())
    share = {c: np.divide(np.abs(m), weight, where=weight > 0, out=np.zeros(size))
             for c, m in means.items()}  # fmt: skip
    return {cell: share[cell] * rise for cell in means}
