"""What the rest asks of a data set: batches of pytrees, in an order that seed and epoch fix.

A batch is a pair (inputs, targets). Inputs are a tensor, a tuple of positional arguments or a dict
of keyword arguments of the network, nested as it takes them. Targets are any nesting of tensors; of
what is ragged, such as the boxes of images, they are a list with an entry for every sample. Axis 0
of every tensor, and such a list, counts the samples.
"""

from collections.abc import Iterator
from typing import Any, Protocol, TypeAlias

Batch: TypeAlias = tuple[Any, Any]
"""Inputs and targets."""


class EpochBatches(Protocol):
    """Batches whose order the epoch's number fixes; `pruner.data.Batches` are such."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Batch]: ...
    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield an epoch's batches from number start on, the same whatever came before."""


class TaskData(Protocol):
    """Training and test batches; `pruner.data.ImageData` is one."""

    def train(
        self, batch: int = ..., *, augment: bool = ..., seed: int = ..., limit: int | None = ...,
        shard: tuple[int, int] = ...,
    ) -> EpochBatches:  # fmt: skip
        """Return shuffled training batches.

        Args:
            batch: Samples of a batch, over all processes.
            augment: Change samples at random, by seed, epoch and the sample's position only.
            seed: Of order, augmentation and limit.
            limit: Use that many samples, drawn once with the seed, or all.
            shard: (rank, processes): this process gets rows rank, rank + processes... of a batch.
        """

    def test(
        self, batch: int = ..., *, limit: int | None = ..., shard: tuple[int, int] = ...
    ) -> EpochBatches:
        """Return batches of all test samples in order; PrunerError where there are none."""

    def fingerprint(self) -> str:
        """Return a digest that tells this data set, and how it is read, from others."""
