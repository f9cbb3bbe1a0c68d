"""Batches of one split of an image folder, in an order that the seed and the epoch's number fix."""

import os
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..errors import PrunerError
from ..utils import digest_json, make_generator
from .order import EpochOrder
from .preprocessing import (
    Preprocessing,
    normalize,
    read_for_evaluation,
    read_for_training,
    shift_and_flip,
)
from .sample_batches import BrokenSamples, SampleBatches
from .samples import Sample, Samples


@dataclass(frozen=True)
class Split(Samples):
    """The images of one split: files and labels in one order, and pixels once decoded.

    Attributes:
        files: Images.
        labels: Their classes, int64 [n].
        preprocessing: What becomes of an image.
        cache_bytes: Decoded images are kept in memory if they take at most that much.
        skip: Leave out images that cannot be read; see `SampleBatches`.
        broken: Is told of those.
    """

    files: tuple[Path, ...]
    labels: Tensor
    preprocessing: Preprocessing
    cache_bytes: int
    skip: bool = False
    broken: BrokenSamples = field(default_factory=lambda: BrokenSamples("images"), compare=False)

    def __len__(self) -> int:
        return len(self.files)

    @property
    def fits_memory(self) -> bool:
        """Whether the decoded images may be kept in memory."""
        height, width = self.preprocessing.size
        return len(self.files) * self.preprocessing.channels * height * width <= self.cache_bytes

    def read(self, row: int, rng: random.Random | None) -> Sample:
        """Return an image as uint8 [C, H, W] and its label."""
        if rng is None:
            image = read_for_evaluation(self.files[row], self.preprocessing)
        else:
            image = read_for_training(self.files[row], self.preprocessing, rng)
        return image, int(self.labels[row])

    def fingerprint(self) -> str:
        """Return a digest of files and labels."""
        return digest_json([list(map(str, self.files)), self.labels.tolist()])

    def load_pixels(self) -> Tensor:
        """Return all images as evaluation sees them, uint8 [n, C, H, W], decoded only once."""
        pixels: Tensor | None = self.__dict__.get("_pixels")
        if pixels is None:
            shape = (len(self.files), self.preprocessing.channels, *self.preprocessing.size)
            pixels = torch.empty(shape, dtype=torch.uint8)
            readable = torch.ones(len(self.files), dtype=torch.bool)
            # Decoding releases the interpreter's lock, so threads are enough.
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                for row, image in enumerate(pool.map(self._read_or_skip, range(len(self.files)))):
                    if isinstance(image, str):
                        readable[row] = False
                        self.broken.add(row, image)
                    else:
                        pixels[row] = image
            self.__dict__["_pixels"], self.__dict__["_readable"] = pixels, readable
        return pixels

    def find_readable(self, rows: Tensor, replace: bool) -> Tensor:
        """Return rows of loaded pixels without those that were skipped.

        Replace puts the next readable row in the place of one, as `SampleBatches` does.
        """
        readable: Tensor = self.__dict__["_readable"]
        if readable.all():
            return rows
        if not replace:
            return rows[readable[rows]]
        known = readable.nonzero().flatten()
        if not len(known):
            raise PrunerError(f"{self.broken.where}: no image can be read")
        return known[torch.searchsorted(known, rows) % len(known)]

    def _read_or_skip(self, row: int) -> Tensor | str:
        try:
            return read_for_evaluation(self.files[row], self.preprocessing)
        except PrunerError as error:
            if not self.skip:
                raise
            return str(error)


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
        # Large training images are read for every epoch anew, so keeping them would be in vain.
        if self.split.fits_memory and (self.split.preprocessing.small or not self.shuffle):
            yield from self._read_memory(order, order.list_batches(epoch, start), epoch, start)
        else:
            yield from self._read_files(order, epoch, start)

    def _read_memory(
        self, order: EpochOrder, chunks: Sequence[Tensor], epoch: int, start: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        pixels = self.split.load_pixels()
        for step, drawn in enumerate(chunks, start):
            rows = self.split.find_readable(drawn, self.shuffle)
            images = pixels[rows]
            if self.augment:
                images = shift_and_flip(images, make_generator("augment", self.seed, epoch, step))
            # Sharded after random numbers are drawn: a run does not depend on the processes.
            images, labels = order.take_shard(images), order.take_shard(self.split.labels[rows])
            # Of an incomplete last batch a process may have no image.
            if len(labels):
                yield normalize(images, self.split.preprocessing), labels

    def _read_files(
        self, order: EpochOrder, epoch: int, start: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        split = self.split
        files = SampleBatches(split, order, self.augment, self.workers, split.skip, split.broken)
        for images, labels in files.epoch(epoch, start):
            yield normalize(images, split.preprocessing), labels
