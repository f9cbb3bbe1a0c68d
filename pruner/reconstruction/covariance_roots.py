"""Square roots of covariances, and inverses of them where they are told from nought."""

from __future__ import annotations

import torch
from torch import Tensor

NOISE = 3e-4
"""Of the largest deviation: what sums of products in single precision do not tell from 0."""


def find_roots(covariance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the symmetric roots of positive matrices, their inverses, and the deviations.

    Args:
        covariance: Symmetric, [n, width, width] double.

    Returns:
        The roots and the inverses, [n, width, width], and along the main directions the square
        roots of the eigenvalues, [n, width], ascending. An inverse is zero along directions whose
        deviation is noise.
    """
    values, vectors = torch.linalg.eigh(covariance)
    deviations = values.clamp_min(0).sqrt()
    small = deviations < NOISE * deviations.amax(-1, keepdim=True).clamp_min(1e-30)
    inverse = torch.where(small, 0.0, 1 / deviations.masked_fill(small, 1.0))
    root, other = ((vectors * s[:, None]) @ vectors.mT for s in (deviations, inverse))
    return root, other, deviations
