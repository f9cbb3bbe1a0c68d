"""First-order Taylor scores (Molchanov et al. 2019, arXiv 1906.10771; HALP, arXiv 2210.06659).

Cutting index i multiplies a set of values y by 0. To first order in that step the loss changes by
-sum(y * dL/dy), and for parameters that scale y linearly the same sum is -sum(w * dL/dw):

    batch norm, y = gamma * z + beta:   sum(y * dL/dy) = gamma * dL/dgamma + beta * dL/dbeta
    convolution or linear, y = W x + b: sum(y * dL/dy) = sum_k W_ik * dL/dW_ik + b_i * dL/db_i

The signed sums of one batch add over all tensors that are cut together, and the score is the mean
over batches of the magnitude: terms of one residual stream may cancel, terms of two batches may not
(at a trained network's minimum the mean gradient is zero and says nothing).
"""

from torch import Tensor

from ..gates import differentiate_gates
from ..structure import Slot
from .base import Criterion, Subject, select_gates, select_readers, select_writers


class TaylorWeight(Criterion):
    """w * dL/dw of the writers' weights and biases, whether a batch norm follows or not."""

    name = "taylor_weight"
    needs = "gradients"
    slots = staticmethod(select_writers)

    def contribution(self, subject: Subject, slot: Slot) -> Tensor:
        """Differentiate by a gate on every position; zero where the loss does not depend on it."""
        gradient = subject.gradients.get(slot.tensor)
        return differentiate_gates(subject.parameters[slot.tensor], gradient, slot.axis)[None]


class Taylor(TaylorWeight):
    """w * dL/dw of the gates: a writer's batch norm, else its own weights and bias."""

    name = "taylor"
    slots = staticmethod(select_gates)


class TaylorRead(TaylorWeight):
    """w * dL/dw of the weights by which the Dim's consumers read it.

    A network with the reading weights of an index at zero *is* the pruned network, so this is the
    linearization of the cut itself: nothing counts twice where channels pass through a depthwise
    convolution or a squeeze-and-excitation gate on their way.
    """

    name = "taylor_read"
    slots = staticmethod(select_readers)
