"""Criteria that look at the weights alone: L1, L2, batch-norm scale and random.

They know nothing of the loss, so their unit is their own: the order within a network means
something, the size does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from ..structure import Dim, Slot
from .base import Criterion, Elementwise, Subject, writers
from .taylor import gates


class Magnitude(Elementwise):
    """Sum of abs(w) over the weights that write an index (Li et al. 2017, arXiv 1608.08710)."""

    name = "magnitude"

    def elements(self, name: str, parameter: Tensor, gradient: Tensor | None) -> Tensor:
        """abs(w)."""
        return parameter.abs()


class L2(Elementwise):
    """Euclidean norm of all the weights that write an index: sqrt of the sum of w squared."""

    name = "l2"

    def elements(self, name: str, parameter: Tensor, gradient: Tensor | None) -> Tensor:
        """w squared (in double precision: small weights must not vanish)."""
        return parameter.double().square()

    def rise(self, total: Tensor) -> Tensor:
        """The root of the sum of squares."""
        return total.sqrt()


class NormScale(Elementwise):
    """Sum of abs(gamma) of the normalizations after a writer (Network Slimming, arXiv 1708.06519).

    Where an index is written without one, the L1 norm of its weights stands in.
    """

    name = "bn_scale"

    def slots(self, subject: Subject, dim: Dim) -> Sequence[Slot]:
        """Scales of the batch norms that writers go through; shifts say nothing of the scale."""
        return [s for s in gates(subject, dim) if s.role != "norm" or s.tensor.endswith("weight")]

    def elements(self, name: str, parameter: Tensor, gradient: Tensor | None) -> Tensor:
        """abs(gamma)."""
        return parameter.abs()


class Random(Criterion):
    """Uniform in [0, 1): the floor that every other criterion must beat.

    The numbers depend on the tensor's name and the seed only, so a run can be repeated.
    """

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def slots(self, subject: Subject, dim: Dim) -> Sequence[Slot]:
        """The parameters that write the Dim's channels."""
        return writers(subject, dim)

    def contribution(self, subject: Subject, slot: Slot) -> Tensor:
        """One uniform number a position."""
        key = hashlib.sha256(f"{self.seed}/{slot.tensor}/{slot.axis}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(key[:7], "big"))
        return torch.rand(1, len(slot.owner), generator=generator, dtype=torch.float64)
