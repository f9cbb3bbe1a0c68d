"""Random scores: the floor that every other criterion must beat."""

import torch
from torch import Tensor

from ..structure import Slot
from ..utils import make_generator
from .base import Criterion, Subject, select_writers


class RandomBaseline(Criterion):
    """Uniform scores in [0, 1).

    The numbers depend on the tensor's name and the seed only, so a run can be repeated.
    """

    name = "random"
    slots = staticmethod(select_writers)

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def contribution(self, subject: Subject, slot: Slot) -> Tensor:
        """Draw one uniform number a position."""
        rng = make_generator(self.seed, slot.tensor, slot.axis)
        return torch.rand(1, len(slot.owner), generator=rng, dtype=torch.float64)
