"""Network Slimming: the scale of the batch norm behind a writer."""

from collections.abc import Sequence

from ..structure import Dim, Slot
from .base import Subject, select_gates
from .magnitude import Magnitude


class NormScale(Magnitude):
    """Sum of abs(gamma) of the batch norms behind the writers (Liu et al. 2017, arXiv 1708.06519).

    Where an index is written without one, the L1 norm of its weights stands in. Its unit is its
    own.
    """

    name = "bn_scale"

    def slots(self, subject: Subject, dim: Dim) -> Sequence[Slot]:
        """Select the gates but for the batch norms' shifts: these say nothing of the scale."""
        gates = select_gates(subject, dim)
        return [s for s in gates if s.role != "norm" or s.tensor.endswith("weight")]
