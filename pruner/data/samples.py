"""Samples: what a reader knows of one split, as rows that can be read in any order."""

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from .collate import collate
from .protocol import Batch

Sample: TypeAlias = tuple[Any, Any]
"""Inputs and targets of one sample: what a batch has, without its axis 0."""


class Samples(ABC):
    """The samples of one split; worker processes get a copy.

    Attributes:
        ragged: Whether targets stay a list with an entry for every sample, such as a dict of boxes.
        moves: Whether targets depend on what of an image is shown, as masks do; labels do not.
    """

    ragged: bool = False
    moves: bool = True

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, row: int, rng: random.Random | None) -> Sample:
        """Read one sample; PrunerError names what cannot be read.

        Args:
            row: From 0 to len(self) - 1.
            rng: Draws the sample's augmentation, seeded by the epoch and the row; None evaluates.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a digest of what is read and how, without reading it."""

    def list_files(self) -> Sequence[Path] | None:
        """Return the file that each sample's input is read from; None where it is from none."""
        return None

    def collate(self, samples: Sequence[Sample]) -> Batch:
        """Join samples to a batch; see `pruner.data.collate` for the rules."""
        inputs = collate([one for one, _ in samples])
        targets = [target for _, target in samples]
        return inputs, targets if self.ragged else collate(targets)
