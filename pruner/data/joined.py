"""Data sets put together: several targets of the same images, and data sets that take turns."""

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import PrunerError
from ..utils import derive_seed, digest_json
from .protocol import Batch, EpochBatches, TaskData
from .sample_data import SampleData
from .samples import Sample, Samples


@dataclass(frozen=True)
class JoinedSamples(Samples):
    """The same images with the targets of several readers, a dict by their names.

    Each reader gets the same random numbers, so that targets which move with their image do so
    alike.

    Attributes:
        where: The data set, for messages.
        parts: Readers by name.
        rows: Of every part, the row of each sample.
    """

    where: str
    parts: Mapping[str, Samples]
    rows: Mapping[str, tuple[int, ...]]

    def __len__(self) -> int:
        return len(next(iter(self.rows.values())))

    def read(self, row: int, rng: random.Random | None) -> Sample:
        """Read an image and all its targets; PrunerError where readers show it differently."""
        state = None if rng is None else rng.getstate()
        found: dict[str, Sample] = {}
        for name, part in self.parts.items():
            if rng is not None and state is not None:
                rng.setstate(state)
            found[name] = part.read(self.rows[name][row], rng)
        main = self._main
        inputs = found[main][0]
        for name, (other, _) in found.items():
            if self.parts[name].moves and not _are_equal(inputs, other):
                raise PrunerError(
                    f"{self.where}: tasks {main} and {name} read one image differently: give both "
                    "the same settings of images (fit, mean, std), or each data of its own"
                )
        return inputs, {name: target for name, (_, target) in found.items()}

    @property
    def _main(self) -> str:
        """The part whose inputs count: one whose targets move with them, if there is one."""
        return next((n for n, part in self.parts.items() if part.moves), next(iter(self.parts)))

    def collate(self, samples: Sequence[Sample]) -> Batch:
        """Join samples, the targets of each reader in its own way."""
        inputs: Any = None
        targets = {}
        for name, part in self.parts.items():
            made = part.collate([(x, target[name]) for x, target in samples])
            targets[name] = made[1]
            inputs = made[0] if name == self._main else inputs
        return inputs, targets

    def fingerprint(self) -> str:
        """Return a digest of the readers' own, and of which rows belong together."""
        parts = {name: part.fingerprint() for name, part in self.parts.items()}
        return digest_json([parts, {name: list(rows) for name, rows in self.rows.items()}])


def join_data(parts: Mapping[str, TaskData], where: str) -> SampleData[JoinedSamples]:
    """Read the same images with the targets of several data sets, by name.

    Images are the same where their files are; of data without files rows of the same number are.

    Raises:
        PrunerError: They cannot be joined, or have no image in common.
    """
    sets: dict[str, SampleData[Samples]] = {}
    for name, data in parts.items():
        if not isinstance(data, SampleData):
            raise PrunerError(
                f"{where}: task {name} reads a folder of its own kind; give each task data of its "
                "own (entry data)"
            )
        sets[name] = data
    notes: list[str] = []
    training = _join({n: one.training for n, one in sets.items()}, where, "train", notes)
    held_out = {n: one.testing for n, one in sets.items()}
    testing = None
    if all(one is not None for one in held_out.values()):
        some = {n: one for n, one in held_out.items() if one is not None}
        testing = _join(some, where, "test", notes)
    first = next(iter(sets.values()))
    return SampleData(where, training, testing, (), tuple(notes), first.workers, first.on_error)


def _join(parts: Mapping[str, Samples], where: str, split: str, notes: list[str]) -> JoinedSamples:
    files = {name: part.list_files() for name, part in parts.items()}
    counts = {name: len(part) for name, part in parts.items()}
    if any(some is None for some in files.values()):
        if len({*counts.values()}) > 1:
            raise PrunerError(f"{where}: {split} has different numbers of samples: {counts}")
        rows = tuple(range(next(iter(counts.values()))))
        return JoinedSamples(where, parts, dict.fromkeys(parts, rows))
    places = {
        name: {os.path.realpath(path): k for k, path in enumerate(some or ())}
        for name, some in files.items()
    }
    first = next(iter(places.values()))
    common = [path for path in first if all(path in found for found in places.values())]
    if not common:
        raise PrunerError(
            f"{where}: no image of {split} has targets of all tasks ({', '.join(parts)}); give "
            "each task data of its own (entry data)"
        )
    if most := max(counts.values()) - len(common):
        notes.append(f"{most} images of {split} lack the targets of a task and are not read")
    return JoinedSamples(
        where, parts,
        {name: tuple(found[path] for path in common) for name, found in places.items()},
    )  # fmt: skip


def _are_equal(left: Any, right: Any) -> bool:
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return torch.equal(left, right)
    return type(left) is type(right)


@dataclass(frozen=True)
class TurnsData:
    """Data sets of which every batch is of one; targets are a dict by name, of that one alone.

    Attributes:
        parts: Data by the names of what its targets are; of several names the targets are dicts.
    """

    parts: Mapping[tuple[str, ...], TaskData]

    def train(
        self,
        batch: int = 32,
        *,
        augment: bool = True,
        seed: int = 0,
        limit: int | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> EpochBatches:
        """Return training batches of all sets, in an order drawn anew for every epoch."""
        share = None if limit is None else -(-limit // len(self.parts))
        return TurnsBatches(
            tuple(
                (names, data.train(batch, augment=augment, seed=seed, limit=share, shard=shard))
                for names, data in self.parts.items()
            ),
            seed,
        )

    def test(
        self, batch: int = 32, *, limit: int | None = None, shard: tuple[int, int] = (0, 1)
    ) -> EpochBatches:
        """Return the test batches of all sets, one set after the other."""
        share = None if limit is None else -(-limit // len(self.parts))
        return TurnsBatches(
            tuple(
                (names, data.test(batch, limit=share, shard=shard))
                for names, data in self.parts.items()
            )
        )

    def fingerprint(self) -> str:
        """Return a digest of all sets."""
        return digest_json([[list(n), data.fingerprint()] for n, data in self.parts.items()])


@dataclass(frozen=True)
class TurnsBatches:
    """Batches of several data sets.

    Attributes:
        parts: Names of targets, and batches.
        seed: Draws the order of every epoch; None: one set after the other.
    """

    parts: tuple[tuple[tuple[str, ...], EpochBatches], ...]
    seed: int | None = None

    def __len__(self) -> int:
        return sum(len(batches) for _, batches in self.parts)

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(0)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield an epoch's batches from number start on, the same whatever came before."""
        order = [k for k, (_, batches) in enumerate(self.parts) for _ in range(len(batches))]
        if self.seed is not None:
            random.Random(derive_seed("turns", self.seed, epoch)).shuffle(order)
        streams = [
            batches.epoch(epoch, order[:start].count(k))
            for k, (_, batches) in enumerate(self.parts)
        ]
        for k in order[start:]:
            names = self.parts[k][0]
            try:
                inputs, targets = next(streams[k])
            except StopIteration:  # all that is left of it was skipped
                continue
            yield inputs, targets if len(names) > 1 else {names[0]: targets}
