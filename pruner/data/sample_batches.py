"""SampleBatches: batches of any samples, in the one order of `EpochOrder`."""

import random
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from ..errors import PrunerError, PrunerWarning, first_line
from ..utils import derive_seed, wrong_value
from .batch_cache import BatchCache
from .order import EpochOrder
from .protocol import Batch
from .samples import Sample, Samples

ON_ERROR = ("raise", "skip")


@dataclass
class BrokenSamples:
    """The samples that could not be read and were left out, row by row in this process."""

    where: str
    messages: dict[int, str] = field(default_factory=dict)

    def add(self, row: int, message: str) -> None:
        """Remember one, and warn of the first."""
        if not self.messages:
            warnings.warn(f"{self.where}: skipped: {message}", PrunerWarning, stacklevel=2)
        self.messages.setdefault(row, message)

    def describe(self) -> tuple[str, ...]:
        """Return their number and the first of them, in words; nothing where there are none."""
        if not self.messages:
            return ()
        first = next(iter(self.messages.values()))
        return (f"{len(self.messages)} samples of {self.where} were skipped (first {first})",)


@dataclass(frozen=True)
class SampleBatches:
    """Batches of samples, of which every epoch can be taken up at any batch.

    Attributes:
        samples: What is read.
        order: Which rows each batch has.
        augment: Change samples at random, by seed, epoch and row only.
        workers: Processes that read; 0 reads in this one.
        skip: Leave out samples that cannot be read. In training the next readable row takes the
            place of one, so that batches keep their size; an evaluation goes without it.
        broken: Is told of those.
        cache: Keeps batches that are not changed at random, if given.
    """

    samples: Samples
    order: EpochOrder
    augment: bool = False
    workers: int = 0
    skip: bool = False
    broken: BrokenSamples = field(default_factory=lambda: BrokenSamples("data"), compare=False)
    cache: BatchCache | None = field(default=None, compare=False)

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(0)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from number start on, the same whatever came before.

        Raises:
            PrunerError: A sample cannot be read, and is not to be skipped; or none can.
        """
        shards = map(self.order.take_shard, self.order.list_batches(epoch, start))
        rows = [tuple(mine.tolist()) for mine in shards if len(mine)]
        cache = None if self.augment else self.cache
        # Decided once: others may fill the cache in the meantime.
        kept = [cache is not None and cache.has(one) for one in rows]
        read = self._read([list(one) for one, has in zip(rows, kept) if not has], epoch)
        for one, has in zip(rows, kept):
            if cache is not None and has:
                yield cache.get(one)
                continue
            batch = next(read)
            if batch is not None:
                if cache is not None:
                    cache.keep(one, batch)
                yield batch

    def _read(self, rows: list[list[int]], epoch: int) -> Iterator[Batch | None]:
        """Yield the batches of rows; None where no sample of one is left."""
        seed = derive_seed("augment", self.order.seed, epoch) if self.augment else None
        reader = _Reader(self.samples, seed, self.skip, replace=self.order.shuffle)
        loader = DataLoader(
            reader, batch_sampler=rows, num_workers=min(self.workers, len(rows)),
            collate_fn=reader.collate,
            generator=torch.Generator(),  # the loader draws from it, and not from the global one
        )  # fmt: skip
        for batch, broken, failure in self._guard(loader):
            for row, message in broken:
                if not self.skip:
                    raise PrunerError(message)
                self.broken.add(row, message)
            if failure:
                raise PrunerError(f"{self.broken.where}: samples do not make a batch: {failure}")
            if batch is None and self.order.shuffle:
                raise PrunerError(
                    f"{self.broken.where}: no sample of a whole batch can be read; {broken[0][1]}"
                )
            yield batch

    def _guard(self, loader: DataLoader[Any]) -> Iterator[Any]:
        """Yield what is read; PrunerError where a process that reads ends or cannot be started."""
        try:
            yield from loader
        except (RuntimeError, OSError) as error:
            raise PrunerError(
                f"{self.broken.where}: reading in {self.workers} processes failed "
                f"({first_line(error)}); workers=0 reads in this one"
            ) from error


_Broken = list[tuple[int, str]]
_MOST_TRIES = 64  # rows in a row, before a place in a training batch is left empty


class _Reader(Dataset[tuple[Sample | None, _Broken]]):
    """Reads rows; errors are returned as texts, since worker processes wrap exceptions."""

    def __init__(self, samples: Samples, seed: int | None, skip: bool, replace: bool) -> None:
        self.samples, self.seed = samples, seed
        self.tries = min(len(samples), _MOST_TRIES) if skip and replace else 1

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, row: int) -> tuple[Sample | None, _Broken]:
        broken: _Broken = []
        for k in range(self.tries):
            candidate = (row + k) % len(self.samples)
            # By the row asked for: no two rows of a batch are changed alike.
            seed = None if self.seed is None else derive_seed(self.seed, row)
            try:
                rng = None if seed is None else random.Random(seed)
                return self.samples.read(candidate, rng), broken
            except PrunerError as error:
                broken.append((candidate, str(error)))
            except Exception as error:
                broken.append((candidate, f"sample {candidate}: {first_line(error)}"))
        return None, broken

    def collate(
        self, read: Sequence[tuple[Sample | None, _Broken]]
    ) -> tuple[Batch | None, _Broken, str]:
        """Join what could be read to a batch, None where nothing could; say why it cannot be."""
        broken = [one for _, found in read for one in found]
        samples = [sample for sample, _ in read if sample is not None]
        if not samples:
            return None, broken, ""
        try:
            return self.samples.collate(samples), broken, ""
        except Exception as error:
            text = str(error) if isinstance(error, PrunerError) else first_line(error)
            return None, broken, text


def check_on_error(value: str) -> str:
    """Return what is done with a sample that cannot be read; PrunerError for an unknown word."""
    if value not in ON_ERROR:
        raise wrong_value("on_error", " or ".join(ON_ERROR), value)
    return value
