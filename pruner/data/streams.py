"""Iterables as data: kept in memory where they fit, else read through once an epoch."""

import random
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ..errors import PrunerError, first_line
from ..utils import derive_seed
from .batch_cache import count_bytes
from .dataset_samples import DatasetSamples, digest_tree, seed_generators
from .order import EpochOrder
from .protocol import Batch


@dataclass(frozen=True)
class StreamSamples(DatasetSamples):
    """Samples of an iterable that is too large to be kept: they have the iterable's own order.

    Attributes:
        count: Number of its samples.
    """

    count: int = 0

    def __len__(self) -> int:
        return self.count

    def fingerprint(self) -> str:
        """Return a digest of name, length, settings and the first samples."""
        first = [digest_tree(one) for one in islice(read_stream(self.dataset, self.where), 2)]
        return digest_tree([self.where, self.count, first, repr(self.targets)])


@dataclass(frozen=True)
class StreamBatches:
    """Batches of an iterable, in its own order.

    Attributes:
        samples: The iterable.
        order: How many samples a batch, an epoch and a process have; its rows are not drawn.
        augment: Change Pillow's images at random, by seed, epoch and the sample's number only.
    """

    samples: StreamSamples
    order: EpochOrder
    augment: bool = False

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(0)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from number start on; what is before is read and dropped.

        Raises:
            PrunerError: The iterable fails, or has fewer samples than it had.
        """
        samples, size = self.samples, self.order.batch
        if hasattr(samples.dataset, "set_epoch"):
            samples.dataset.set_epoch(epoch)
        stream = islice(read_stream(samples.dataset, samples.where, epoch), self.order.samples)
        for number in range(len(self)):
            found = list(islice(stream, size))
            if len(found) < min(size, self.order.samples - number * size):
                raise PrunerError(
                    f"{samples.where}: an iterable of {samples.count} samples gave only "
                    f"{number * size + len(found)}; it must be one that can be read again"
                )
            mine = list(range(len(found)))[self.order.shard[0] :: self.order.shard[1]]
            if number < start or not mine:
                continue
            read = []
            for k in mine:
                row = number * size + k
                seed = derive_seed(derive_seed("augment", self.order.seed, epoch), row)
                rng = random.Random(seed) if self.augment else None
                read.append(samples.split(found[k], f"{samples.where}: sample {row}", rng))
            yield samples.collate(read)


def read_stream(stream: Iterable[Any], where: str, epoch: int = 0) -> Iterator[Any]:
    """Yield an iterable's items, its generators seeded by the epoch; PrunerError where it fails."""
    number = 0
    items: Iterator[Any] | None = None
    while True:
        with seed_generators(derive_seed("stream", epoch, number)):
            try:
                items = iter(stream) if items is None else items
                item = next(items)
            except StopIteration:
                return
            except Exception as error:  # whatever the user's iterable raises
                raise PrunerError(f"{where}: sample {number}: {first_line(error)}") from error
        yield item
        number += 1


def keep_stream(
    stream: Iterable[Any], where: str, cache_bytes: int
) -> tuple[list[Any] | None, int]:
    """Read an iterable through: its items, or None where they take more bytes, and their number."""
    kept: list[Any] | None = []
    used = count = 0
    for item in read_stream(stream, where):
        count += 1
        used += count_bytes(item)
        if kept is not None and used <= cache_bytes:
            kept.append(item)
        else:
            kept = None
            if isinstance(stream, Sized):
                return None, len(stream)
    return kept, count
