"""Norms of the weights that write an index: L1 and L2.

They know nothing of the loss, so their unit is their own: the order within a network means
something, the size does not.
"""

from torch import Tensor

from .base import Elementwise


class Magnitude(Elementwise):
    """Sum of abs(w) over the weights that write an index (Li et al. 2017, arXiv 1608.08710)."""

    name = "magnitude"

    def elements(self, name: str, parameter: Tensor, gradient: Tensor | None) -> Tensor:
        """Take abs(w)."""
        return parameter.abs()


class L2(Elementwise):
    """Euclidean norm of all the weights that write an index: sqrt of the sum of w squared."""

    name = "l2"

    def elements(self, name: str, parameter: Tensor, gradient: Tensor | None) -> Tensor:
        """Square w, in double precision: small weights must not vanish."""
        return parameter.double().square()

    def rise(self, total: Tensor) -> Tensor:
        """Take the root of the sum of squares."""
        return total.sqrt()
