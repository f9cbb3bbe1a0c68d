"""Criteria on single samples: empirical Fisher information, first-order effects by sample."""

from torch import Tensor

from .activation_hooks import SampleCriterion
from .base import select_gates


class TaylorSample(SampleCriterion):
    """mean over samples of abs(sum(y * dL/dy)): samples that pull apart do not cancel.

    The same gates as ``taylor``, whose magnitude is taken a batch, and which therefore falls with
    the batch's size.
    """

    name = "taylor_sample"
    slots = staticmethod(select_gates)


class Fisher(TaylorSample):
    """1/2 mean over samples of (sum(y * dL/dy))^2 (Theis et al. 2018, arXiv 1801.05787, eq. 6).

    Multiply everything that is cut together with index i by a gate g. At a minimum the loss rises
    by 1/2 d2L/dg2 (g - 1)^2, and for a loss that is a log-likelihood the empirical Fisher
    information, the mean square of dL/dg over samples, stands for the second derivative. Coupled
    tensors share the gate: their terms add before the square (Liu et al. 2021, arXiv 2108.00708).
    """

    name = "fisher"

    def rise(self, total: Tensor) -> Tensor:
        """Halve the square."""
        return total.square() / 2
