"""A differential inclusion on masks: they enter one after another, the sooner the more they matter.

Masks M, from one on, are trained by the loss; beside them stand a dual V and a sparse copy C (the
paper's Gamma), which start at zero. With step size h and factor k, every step does

    V <- V + h k (M - C)            C <- relu(max(0, 1 - threshold / |V|) * V)

so that C is zero until V has grown past the threshold. V grows by what is left of a mask: masks
that the loss pays little for shrink, and enter late or never. When an index enters ranks it, and
every number of indices is a point on one path ("SPP", arXiv 2501.03289, after split linearized
Bregman iterations).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class MaskPath:
    """Where a search stands; tensors float64 [indices].

    Attributes:
        dual: V.
        sparse: C.
        entry: The step at which an index entered, between two steps by linear interpolation;
            infinite where it has not.
        step: Steps done.
    """

    dual: Tensor
    sparse: Tensor
    entry: Tensor
    step: int = 0

    @classmethod
    def begin(cls, count: int) -> MaskPath:
        """Return the state of so many indices before the first step."""
        zeros = torch.zeros(count, dtype=torch.float64)
        return cls(zeros, zeros.clone(), torch.full_like(zeros, torch.inf))

    def advance(self, masks: Tensor, rate: float, threshold: float) -> MaskPath:
        """Return the state after a step.

        Args:
            masks: float64 [indices], after their own step.
            rate: h times k.
            threshold: What a dual must pass for its index to enter.
        """
        dual = self.dual + rate * (masks - self.sparse)
        shrunk = (1 - threshold / dual.abs().clamp_min(torch.finfo(dual.dtype).tiny)).clamp_min(0)
        sparse = (shrunk * dual).relu()
        enters = (sparse > 0) & self.entry.isinf()
        share = (threshold - self.dual) / (dual - self.dual)
        entry = torch.where(enters, self.step + share, self.entry)
        return MaskPath(dual, sparse, entry, self.step + 1)

    def rank(self, threshold: float) -> Tensor:
        """Return scores >= 0 in the order of entry, float64 [indices].

        Those that entered have 1 to 2, the earlier the more; the others less than 1, by how far
        their dual has come from the lowest one (or zero) to the threshold.
        """
        low = self.dual.clamp(max=0).min()
        waiting = (self.dual - low) / (threshold - low)
        arrived = 2 - self.entry / max(self.step, 1)
        return torch.where(self.entry.isinf(), waiting.clamp(0, 1), arrived)
