"""Second-order scores with the Hessian itself (LeCun et al. 1990, "Optimal Brain Damage").

Multiply everything that is cut together with index i by a gate g. Parameters are linear in their
gate, so the loss has the second derivative

    d2L/dg2 = w_i^T H w_i        (w_i: the gated parameters of index i, H: the Hessian)

and at a minimum, where the first one is zero, closing the gate raises it by half of that. Products
with H cost one more backward pass each. With random signs z, one an index, w = sum_i z_i w_i and
E[z_i w_i^T H w] = w_i^T H w_i: one product estimates all indices of all Dims at once
(Hutchinson 1990), and the terms between them average out over draws and batches.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..data import Batch
from ..errors import PrunerError
from ..gates import differentiate_gates, fold_positions, gate_parameter, spread_gates
from ..graph import evaluation_mode
from ..structure import Importance, Network, Slot
from ..tasks import Task
from ..utils import make_generator
from .base import Callback, Loss, Subject, select_gates
from .network_criterion import NetworkCriterion


class Hessian(NetworkCriterion):
    """max(0, 1/2 d2L/dg2) by Hutchinson's estimate, for the gates of ``taylor``.

    Parts of a Dim's cells are their own terms of the sum, by magnitude.
    """

    name = "hessian"
    needs = "gradients"

    def __init__(self, *, draws: int = 4) -> None:
        """Set the random directions a batch: with more, an index shows less of the others."""
        self.draws = draws

    def score(
        self, net: Network, batches: Iterable[Batch], loss: Loss | None, progress: Callback = None,
        task: Task | None = None,
    ) -> Importance:  # fmt: skip
        """Estimate the curvature of the loss along every gate; see `NetworkCriterion.score`."""
        if loss is None:
            raise PrunerError(f"criterion {self.name!r} needs a loss: loss(outputs, targets)")
        subject = Subject.wrap(net.module, task)
        plan = [(name, s) for name, dim in net.dims.items() for s in select_gates(subject, dim)]
        sums: dict[str, dict[str, Tensor]] = defaultdict(dict)
        batches = list(batches)
        # Fused attention has no second derivative.
        with evaluation_mode(net.module, gradients=True), sdpa_kernel(SDPBackend.MATH):
            for number, batch in enumerate(batches):
                gradients = _differentiate(subject, loss, batch)
                for draw in range(self.draws):
                    signs = {
                        name: _draw_signs(dim.size, number, draw, name)
                        for name, dim in net.dims.items()
                    }
                    products = _multiply(gradients, _build_direction(subject, plan, signs))
                    for name, slot in plan:
                        part = _project(subject, slot, products, signs[name])
                        key = slot.cell or ""
                        sums[name][key] = sums[name].get(key, 0.0) + part
                if progress is not None:
                    progress(number + 1, len(batches))
        count = len(batches) * self.draws
        if not count:
            raise PrunerError(f"criterion {self.name!r}: batches are empty; give at least one")
        return Importance(
            self.name, {n: _share_out(sums[n], count, d.size) for n, d in net.dims.items()}
        )


def _differentiate(subject: Subject, loss: Loss, batch: Batch) -> dict[Tensor, Tensor | None]:
    """Compute the gradient of one batch's loss, differentiable again, by parameter."""
    parameters = list(dict.fromkeys(subject.parameters.values()))
    value = loss(*subject.run(batch))
    found = torch.autograd.grad(value, parameters, create_graph=True, allow_unused=True)
    return dict(zip(parameters, found))


def _multiply(
    gradients: Mapping[Tensor, Tensor | None], direction: Mapping[Tensor, Tensor]
) -> dict[Tensor, Tensor]:
    """Compute H times a direction, by parameter (those that the loss depends on)."""
    pairs = [
        (gradient, direction[p])
        for p, gradient in gradients.items()
        if gradient is not None and gradient.requires_grad and p in direction
    ]
    if not pairs:
        return {}
    outputs, weights = zip(*pairs)
    found = torch.autograd.grad(
        outputs, list(gradients), weights, retain_graph=True, allow_unused=True
    )
    return {p: h.detach() for p, h in zip(gradients, found) if h is not None}


def _draw_signs(size: int, *keys: int | str) -> Tensor:
    rng = make_generator("hessian", *keys)
    return torch.randint(0, 2, (size,), generator=rng).double() * 2 - 1


def _build_direction(
    subject: Subject, plan: Iterable[tuple[str, Slot]], signs: Mapping[str, Tensor]
) -> dict[Tensor, Tensor]:
    """Sum z_i w_i over all indices, by parameter."""
    direction: dict[Tensor, Tensor] = {}
    for name, slot in plan:
        parameter = subject.parameters[slot.tensor]
        spread = spread_gates(slot.owner, signs[name], others=0.0)
        gated = gate_parameter(parameter.detach(), slot.axis, spread)
        direction[parameter] = direction.get(parameter, 0.0) + gated  # type: ignore[operator]
    return direction


def _project(
    subject: Subject, slot: Slot, products: Mapping[Tensor, Tensor], signs: Tensor
) -> Tensor:
    """Sum z_i w_i^T (H w) over what a slot holds of each index: float64 [dim size]."""
    parameter = subject.parameters[slot.tensor]
    if parameter not in products:
        return torch.zeros(len(signs), dtype=torch.float64)
    values = differentiate_gates(parameter.detach(), products[parameter], slot.axis).cpu()
    spread = spread_gates(slot.owner, signs, others=0.0)
    return fold_positions((values * spread)[None], slot.owner, len(signs))[0]


def _share_out(sums: Mapping[str, Tensor], count: int, size: int) -> dict[str, NDArray[np.float64]]:
    """Average over draws and share each index's rise out among the cells, by magnitude."""
    if not sums:
        return {"": np.zeros(size)}
    means = {cell: total.numpy() / count for cell, total in sums.items()}
    rise = np.maximum(0.5 * sum(means.values()), 0.0)
    weight = sum(np.abs(mean) for mean in means.values())
    share = {c: np.divide(np.abs(m), weight, where=weight > 0, out=np.zeros(size))
             for c, m in means.items()}  # fmt: skip
    return {cell: share[cell] * rise for cell in means}
