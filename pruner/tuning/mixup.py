"""Mixup: every image becomes a mixture of two, and so do their labels (arXiv 1710.09412)."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Mixture:
    """How a batch is mixed: ``share * x + (1 - share) * x[partner]``.

    Attributes:
        share: In [0.5, 1], so that an image's own label counts at least half.
        partner: A permutation of the images, int64 [n].
    """

    share: float
    partner: Tensor

    def mix_images(self, inputs: Tensor) -> Tensor:
        """Mix a batch of images [n, ...]."""
        return self.share * inputs + (1 - self.share) * inputs[self.partner]

    def mix_labels(self, labels: Tensor, classes: int) -> Tensor:
        """Mix labels, int64 [n], to probabilities [n, classes]."""
        own = functional.one_hot(labels, classes).float()
        return self.share * own + (1 - self.share) * own[self.partner]


def draw_mixture(count: int, alpha: float, device: torch.device) -> Mixture:
    """Draw a mixture of ``count`` images by Beta(alpha, alpha) (Zhang et al. 2018).

    The random numbers come from torch's generator of the CPU, whatever the device is.
    """
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    return Mixture(max(share, 1 - share), torch.randperm(count).to(device))
