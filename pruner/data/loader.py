"""Batches of one split, in an order that the seed and the number of the epoch fix."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..errors import PrunerError
from .preprocessing import (
    Preprocessing,
    normalize,
    read_for_evaluation,
    read_for_training,
    shift_and_flip,
)
from ..utils import make_generator, derive_seed


@dataclass(frozen=True)
class Split:
    """The images of one split: files and labels in one order, and pixels once decoded."""

    files: tuple[Path, ...]
    labels: Tensor
    how: Preprocessing
    cache_bytes: int

    @property
    def fits(self) -> bool:
        """Whether the decoded images may be kept in memory."""
        return len(self.files) * 3 * self.how.size[0] * self.how.size[1] <= self.cache_bytes

    def pixels(self) -> Tensor:
        """All images as evaluation sees them, uint8 [n, 3, H, W], decoded at the first call."""
        kept: Tensor | None = self.__dict__.get("_pixels")
        if kept is None:
            kept = torch.empty(len(self.files), 3, *self.how.size, dtype=torch.uint8)
            # Decoding releases the interpreter's lock, so threads are enough.
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                decoded = pool.map(lambda path: read_for_evaluation(path, self.how), self.files)
                for row, image in enumerate(decoded):
                    kept[row] = image
            self.__dict__["_pixels"] = kept
        return kept


@dataclass(frozen=True)
class Batches:
    """Pairs (float32 [n, 3, H, W], int64 [n]) of a split.

    batch
        Images a batch, over all processes.
    augment
        Random crops and flips. The random numbers of an image depend on seed, epoch and place only.
    shuffle
        A new order every epoch, and the last incomplete batch left out (of more than one).
    limit
        Use that many images, drawn once with the seed, or all.
    shard
        (rank, processes): of every batch this process gets the rows rank, rank + processes...
    workers
        Processes that decode images which are not kept in memory.
    """

    split: Split
    batch: int
    augment: bool = False
    shuffle: bool = False
    seed: int = 0
    limit: int | None = None
    shard: tuple[int, int] = (0, 1)
    workers: int = 0

    def __post_init__(self) -> None:
        if self.batch < self.shard[1]:
            raise PrunerError(
                f"batch: expected at least one image for each of {self.shard[1]} processes, "
                f"got {self.batch}"
            )

    @property
    def images(self) -> int:
        """Number of images that an epoch draws from, over all processes."""
        return min(len(self.split.files), self.limit or len(self.split.files))

    def __len__(self) -> int:
        """Batches an epoch."""
        if self.shuffle and self.images >= self.batch:
            return self.images // self.batch
        return -(-self.images // self.batch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.epoch(0)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch from number start on: the same ones, whatever came before."""
        rows = self._order(epoch)
        chunks = [rows[k * self.batch : (k + 1) * self.batch] for k in range(start, len(self))]
        # Large training images are read for every epoch anew, so keeping them would be in vain.
        if self.split.fits and (self.split.how.small or not self.shuffle):
            yield from self._from_memory(chunks, epoch, start)
        else:
            yield from self._from_files(chunks, epoch)

    def _order(self, epoch: int) -> Tensor:
        rows = torch.arange(len(self.split.files))
        if self.images < len(rows):
            draw = torch.randperm(len(rows), generator=make_generator("limit", self.seed))
            rows = draw[: self.images].sort().values
        if self.shuffle:
            order = torch.randperm(len(rows), generator=make_generator("order", self.seed, epoch))
            rows = rows[order]
        return rows

    def _mine(self, rows: Tensor) -> Tensor:
        rank, world = self.shard
        return rows[rank::world]

    def _from_memory(
        self, chunks: Sequence[Tensor], epoch: int, start: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        pixels = self.split.pixels()
        for step, rows in enumerate(chunks, start):
            images = pixels[rows]
            if self.augment:
                images = shift_and_flip(images, make_generator("augment", self.seed, epoch, step))
            # Sharded after the dice are cast: a run does not depend on the number of processes.
            yield normalize(self._mine(images), self.split.how), self._mine(self.split.labels[rows])

    def _from_files(self, chunks: Sequence[Tensor], epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        files = _Files(self.split, derive_seed("augment", self.seed, epoch) if self.augment else None)
        mine = [self._mine(rows).tolist() for rows in chunks]
        loader = DataLoader(
            files, batch_sampler=mine, num_workers=self.workers, collate_fn=_collate
        )
        for images, labels, error in loader:
            if error:
                raise PrunerError(error)
            yield normalize(images, self.split.how), labels


class _Files(Dataset[tuple[Tensor, int, str]]):
    """Decodes an image; an error travels as text, since worker processes wrap exceptions."""

    def __init__(self, split: Split, seed: int | None) -> None:
        self.files, self.labels = split.files, split.labels.tolist()
        self.how, self.seed = split.how, seed

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> tuple[Tensor, int, str]:
        try:
            if self.seed is None:
                image = read_for_evaluation(self.files[row], self.how)
            else:
                dice = random.Random(derive_seed(self.seed, row))
                image = read_for_training(self.files[row], self.how, dice)
        except PrunerError as error:
            return torch.empty(3, *self.how.size, dtype=torch.uint8), -1, str(error)
        return image, self.labels[row], ""


def _collate(items: list[tuple[Tensor, int, str]]) -> tuple[Tensor, Tensor, str]:
    images, labels, errors = zip(*items, strict=True)
    return torch.stack(images), torch.tensor(labels), next(filter(None, errors), "")
