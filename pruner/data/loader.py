"""Batches of one split, in an order that the seed and the number of the epoch fix."""

import os
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..errors import PrunerError
from ..utils import derive_seed, make_generator
from .order import EpochOrder
from .preprocessing import (
    Preprocessing,
    normalize,
    read_for_evaluation,
    read_for_training,
    shift_and_flip,
)


@dataclass(frozen=True)
class Split:
    """The images of one split: files and labels in one order, and pixels once decoded."""

    files: tuple[Path, ...]
    labels: Tensor
    preprocessing: Preprocessing
    cache_bytes: int

    @property
    def fits_memory(self) -> bool:
        """Whether the decoded images may be kept in memory."""
        height, width = self.preprocessing.size
        return len(self.files) * self.preprocessing.channels * height * width <= self.cache_bytes

    def load_pixels(self) -> Tensor:
        """Return all images as evaluation sees them, uint8 [n, C, H, W], decoded only once."""
        pixels: Tensor | None = self.__dict__.get("_pixels")
        if pixels is None:
            shape = (len(self.files), self.preprocessing.channels, *self.preprocessing.size)
            pixels = torch.empty(shape, dtype=torch.uint8)
            # Decoding releases the interpreter's lock, so threads are enough.
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                read = partial(read_for_evaluation, preprocessing=self.preprocessing)
                for row, image in enumerate(pool.map(read, self.files)):
                    pixels[row] = image
            self.__dict__["_pixels"] = pixels
        return pixels


@dataclass(frozen=True)
class Batches:
    """Pairs (float32 [n, C, H, W], int64 [n]) of a split.

    Attributes:
        split: Where the images come from.
        batch: Images of a batch, over all processes.
        augment: Crop and flip at random, by seed, epoch and the image's position only.
        shuffle: Draw a new order every epoch, and leave out an incomplete last batch of several.
        seed: Of order, augmentation and limit.
        limit: Use that many images, drawn once with the seed, or all.
        shard: (rank, processes): this process gets rows rank, rank + processes... of every batch.
        workers: Processes that decode images which are not kept in memory.
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
        self._build_order()

    def _build_order(self) -> EpochOrder:
        rows = len(self.split.files)
        return EpochOrder(rows, self.batch, self.shuffle, self.seed, self.limit, self.shard)

    @property
    def images(self) -> int:
        """Number of images that an epoch draws from, over all processes."""
        return self._build_order().samples

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return len(self._build_order())

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.epoch(0)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of an epoch from number start on, the same whatever came before."""
        order = self._build_order()
        chunks = order.list_batches(epoch, start)
        # Large training images are read for every epoch anew, so keeping them would be in vain.
        if self.split.fits_memory and (self.split.preprocessing.small or not self.shuffle):
            yield from self._read_memory(order, chunks, epoch, start)
        else:
            yield from self._read_files(order, chunks, epoch)

    def _read_memory(
        self, order: EpochOrder, chunks: Sequence[Tensor], epoch: int, start: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        pixels = self.split.load_pixels()
        for step, rows in enumerate(chunks, start):
            images = pixels[rows]
            if self.augment:
                images = shift_and_flip(images, make_generator("augment", self.seed, epoch, step))
            # Sharded after random numbers are drawn: a run does not depend on the processes.
            images, labels = order.take_shard(images), order.take_shard(self.split.labels[rows])
            yield normalize(images, self.split.preprocessing), labels

    def _read_files(
        self, order: EpochOrder, chunks: Sequence[Tensor], epoch: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        files = _Files(
            self.split, derive_seed("augment", self.seed, epoch) if self.augment else None
        )
        # Of an incomplete last batch a process may have no image.
        batches = [mine.tolist() for rows in chunks if len(mine := order.take_shard(rows))]
        loader = DataLoader(files, batch_sampler=batches, num_workers=self.workers)
        for images, labels, errors in loader:
            if any(errors):
                raise PrunerError(next(filter(None, errors)))
            yield normalize(images, self.split.preprocessing), labels


class _Files(Dataset[tuple[Tensor, int, str]]):
    """Decoded images; an error is returned as text, since worker processes wrap exceptions."""

    def __init__(self, split: Split, seed: int | None) -> None:
        self.files, self.labels = split.files, split.labels.tolist()
        self.preprocessing, self.seed = split.preprocessing, seed

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> tuple[Tensor, int, str]:
        try:
            if self.seed is None:
                image = read_for_evaluation(self.files[row], self.preprocessing)
            else:
                rng = random.Random(derive_seed(self.seed, row))
                image = read_for_training(self.files[row], self.preprocessing, rng)
        except PrunerError as error:
            shape = (self.preprocessing.channels, *self.preprocessing.size)
            return torch.empty(shape, dtype=torch.uint8), -1, str(error)
        return image, self.labels[row], ""
