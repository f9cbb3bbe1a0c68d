"""SampleData: a data set of any samples, as training and test batches."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ..errors import PrunerError, PrunerWarning
from ..utils import digest_json
from .batch_cache import BatchCache
from .order import EpochOrder
from .protocol import EpochBatches
from .sample_batches import BrokenSamples, SampleBatches, check_on_error
from .samples import Samples
from .streams import StreamBatches, StreamSamples

S = TypeVar("S", bound=Samples)


@dataclass(frozen=True)
class SampleData(Generic[S]):
    """Two splits of samples behind the protocol `pruner.data.TaskData`.

    Attributes:
        where: The folder, file or factory that they come from, for messages.
        training: Samples to train on.
        testing: Samples to test on, or None.
        classes: Names of what targets count, in the order of their numbers; () where unknown.
        found: What was found on opening and is read in another way than one may expect, in words.
        workers: Processes that read samples (None: the cores, at most 8).
        on_error: ``"raise"`` or ``"skip"``: what becomes of samples that cannot be read.
        cache_mb: Batches of a split that are not changed at random are kept up to that much memory.
    """

    where: str
    training: S
    testing: S | None = None
    classes: tuple[str, ...] = ()
    found: tuple[str, ...] = ()
    workers: int | None = None
    on_error: str = "raise"
    cache_mb: int = 1024
    _broken: BrokenSamples = field(init=False, repr=False, compare=False)
    _caches: tuple[BatchCache, BatchCache] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_on_error(self.on_error)
        if not len(self.training):
            raise PrunerError(f"{self.where}: no samples to train on")
        object.__setattr__(self, "_broken", BrokenSamples(self.where))
        sizes = [self.cache_mb * 2**20] * 2
        object.__setattr__(self, "_caches", tuple(map(BatchCache, sizes)))
        for note in self.found:
            warnings.warn(f"{self.where}: {note}", PrunerWarning, stacklevel=3)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found on opening, and how many samples were skipped so far, in words."""
        return (*self.found, *self._broken.describe())

    def train(
        self,
        batch: int = 32,
        *,
        augment: bool = True,
        seed: int = 0,
        limit: int | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> EpochBatches:
        """Return shuffled training batches; see `pruner.data.TaskData` for the arguments."""
        order = EpochOrder(len(self.training), batch, True, seed, limit, shard)
        return self._make_batches(self.training, order, augment, self._caches[0])

    def test(
        self, batch: int = 32, *, limit: int | None = None, shard: tuple[int, int] = (0, 1)
    ) -> EpochBatches:
        """Return batches of all test samples, in order; PrunerError where there are none."""
        if self.testing is None or not len(self.testing):
            raise PrunerError(f"{self.where}: no samples to test on; give a val or test split")
        order = EpochOrder(len(self.testing), batch, limit=limit, shard=shard)
        return self._make_batches(self.testing, order, False, self._caches[1])

    def fingerprint(self) -> str:
        """Return a digest of both splits and of how they are read, which tells data sets apart."""
        splits: Sequence[Samples | None] = (self.training, self.testing)
        parts = [None if one is None else one.fingerprint() for one in splits]
        return digest_json([parts, self.classes, self.on_error])

    def _make_batches(
        self, samples: Samples, order: EpochOrder, augment: bool, cache: BatchCache
    ) -> EpochBatches:
        if isinstance(samples, StreamSamples):
            return StreamBatches(samples, order, augment)
        workers = min(8, os.cpu_count() or 1) if self.workers is None else self.workers
        skip = self.on_error == "skip"
        return SampleBatches(samples, order, augment, workers, skip, self._broken, cache)
