"""First-order Taylor scores (Molchanov et al. 2019, arXiv 1906.10771; HALP, arXiv 2210.06659).

Cutting index i multiplies a set of values y by 0. To first order in that step the loss changes by
-sum(y * dL/dy), and for parameters that scale y linearly the same sum is -sum(w * dL/dw):

    batch norm, y = gamma * z + beta:   sum(y * dL/dy) = gamma * dL/dgamma + beta * dL/dbeta
    convolution or linear, y = W x + b: sum(y * dL/dy) = sum_k W_ik * dL/dW_ik + b_i * dL/db_i

The signed sums of one batch add over all tensors that are cut together, and the score is the mean
over batches of the magnitude: terms of one residual stream may cancel, terms of two batches may not
(at a trained network's minimum the mean gradient is zero and says nothing).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..structure import Dim, Slot
from .base import Elementwise, Subject, parameter_slots, readers, writers


class _GradientTimesWeight(Elementwise):
    needs = "gradients"

    def elements(self, name: str, parameter: Tensor, gradient: Tensor | None) -> Tensor:
        """w * dL/dw; zero where the loss does not depend on the parameter."""
        return (
            parameter * gradient if gradient is not None else parameter.new_zeros(parameter.shape)
        )


class Taylor(_GradientTimesWeight):
    """Gates: the batch norm that a writer goes through, else the writer's own weights and bias."""

    name = "taylor"

    def slots(self, subject: Subject, dim: Dim) -> Sequence[Slot]:
        """See `gates`."""
        return gates(subject, dim)


class TaylorWeight(_GradientTimesWeight):
    """Weights and biases of the writers, whether a batch norm follows or not."""

    name = "taylor_weight"

    def slots(self, subject: Subject, dim: Dim) -> Sequence[Slot]:
        """See `writers`."""
        return writers(subject, dim)


class TaylorRead(_GradientTimesWeight):
    """Weights by which the Dim's consumers read it.

    A network with the reading weights of an index at zero *is* the pruned network, so this is the
    linearization of the cut itself: nothing counts twice where channels pass through a depthwise
    convolution or a squeeze-and-excitation gate on their way.
    """

    name = "taylor_read"

    def slots(self, subject: Subject, dim: Dim) -> Sequence[Slot]:
        """See `readers`."""
        return readers(subject, dim)


def gates(subject: Subject, dim: Dim) -> list[Slot]:
    """Cell by cell: scale and shift of the batch norm behind a writer, else the writer itself.

    A batch norm in a cell that only reads the Dim (pre-activation networks) is no gate of it: the
    writers account for the whole stream already.
    """
    written = writers(subject, dim)
    cells = {slot.cell for slot in written if slot.role == "out"}
    norms = [
        slot
        for slot in parameter_slots(subject, dim, "norm")
        if slot.cell is not None
        and slot.cell in cells
        and isinstance(subject.holder(slot.tensor), nn.modules.batchnorm._BatchNorm)
    ]
    normed = {slot.cell for slot in norms}
    return norms + [s for s in written if s.role != "out" or s.cell not in normed]
