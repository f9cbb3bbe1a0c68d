"""Total: a sum over predictions and their number, so that means over batches are exact."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Total:
    """A loss or divergence of a batch.

    Attributes:
        value: Scalar: the sum over predictions (images, pixels, tokens, boxes).
        count: How many predictions there are.
    """

    value: Tensor
    count: int

    @property
    def mean(self) -> Tensor:
        """The mean over predictions."""
        return self.value / self.count
