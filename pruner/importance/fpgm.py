"""FPGM: an index whose weights lie near the middle of the others' can be done without."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..structure import Dim, Slot
from .base import Criterion, Subject, writers


class GeometricMedian(Criterion):
    """Sum of the distances to the weights of all other indices (He et al. 2019, arXiv 1811.00250).

    Summed over the tensors that write the Dim; the unit is its own.
    """

    name = "fpgm"

    def slots(self, subject: Subject, dim: Dim) -> Sequence[Slot]:
        """See `writers`."""
        return writers(subject, dim)

    def contribution(self, subject: Subject, slot: Slot) -> Tensor:
        """Euclidean distances between slices of the tensor, only among those of this Dim."""
        rows = subject.parameters[slot.tensor].double().movedim(slot.axis, 0)
        rows = rows.reshape(len(rows), -1)
        mine = torch.as_tensor(slot.owner >= 0)
        result = rows.new_zeros(1, len(rows))
        result[0, mine] = torch.cdist(rows[mine], rows[mine]).sum(1)
        return result
