"""Mixup: every sample becomes a mixture of two, and so do their labels (arXiv 1710.09412)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils import _pytree as pytree


@dataclass(frozen=True)
class Mixture:
    """How a batch is mixed: ``share * x + (1 - share) * x[partner]``.

    Attributes:
        share: In [0.5, 1], so that a sample's own label counts at least half.
        partner: A permutation of the samples, int64 [n].
    """

    share: float
    partner: Tensor

    def mix_images(self, inputs: Any) -> Any:
        """Mix a batch of inputs, each tensor [n, ...]."""
        return pytree.tree_map_only(
            Tensor, lambda x: self.share * x + (1 - self.share) * x[self.partner], inputs
        )

    def mix_labels(self, labels: Tensor, classes: int) -> Tensor:
        """Mix labels, int64 [n], to probabilities [n, classes]."""
        own = functional.one_hot(labels, classes).float()
        return self.share * own + (1 - self.share) * own[self.partner]


def draw_mixture(count: int, alpha: float, device: torch.device) -> Mixture:
    """Draw a mixture of ``count`` samples by Beta(alpha, alpha) (Zhang et al. 2018).

    The random numbers come from torch's generator of the CPU, whatever the device is.
    """
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    return Mixture(max(share, 1 - share), torch.randperm(count).to(device))
