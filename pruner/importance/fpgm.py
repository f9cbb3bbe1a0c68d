"""FPGM: an index whose weights lie near the middle of the others' can be done without."""

import torch
from torch import Tensor

from ..structure import Slot
from .base import Criterion, Subject, select_writers


class GeometricMedian(Criterion):
    """Sum of the distances to the weights of all other indices (He et al. 2019, arXiv 1811.00250).

    Summed over the tensors that write the Dim; the unit is its own.
    """

    name = "fpgm"
    slots = staticmethod(select_writers)

    def contribution(self, subject: Subject, slot: Slot) -> Tensor:
        """Sum Euclidean distances between slices of the tensor, only among those of this Dim."""
        rows = subject.parameters[slot.tensor].double().movedim(slot.axis, 0)
        rows = rows.reshape(len(rows), -1)
        owned = torch.as_tensor(slot.owner >= 0)
        result = rows.new_zeros(1, len(rows))
        result[0, owned] = torch.cdist(rows[owned], rows[owned]).sum(1)
        return result
