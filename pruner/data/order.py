"""EpochOrder: which rows of a split each batch of an epoch has, by seed and number of the epoch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import PrunerError
from ..utils import make_generator, wrong_value


@dataclass(frozen=True)
class EpochOrder:
    """The one order of every data set: the same rows for the same seed, whatever came before.

    Attributes:
        rows: Number of samples of the split.
        batch: Samples of a batch, over all processes.
        shuffle: Draw a new order every epoch, and leave out an incomplete last batch of several.
        seed: Of order and limit.
        limit: Use that many samples, drawn once with the seed, or all.
        shard: (rank, processes): this process gets rows rank, rank + processes... of every batch.
    """

    rows: int
    batch: int
    shuffle: bool = False
    seed: int = 0
    limit: int | None = None
    shard: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        processes = self.shard[1]
        if self.batch < max(processes, 1):
            expected = f"at least one sample for each of {processes} processes"
            raise wrong_value("batch", expected, self.batch)
        if self.shuffle and self.samples < processes:
            raise PrunerError(
                f"{self.samples} samples cannot be shared by {processes} processes; use fewer"
            )

    @property
    def samples(self) -> int:
        """Number of samples that an epoch draws from, over all processes."""
        return min(self.rows, self.limit or self.rows)

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        if self.shuffle and self.samples >= self.batch:
            return self.samples // self.batch
        return -(-self.samples // self.batch)

    def list_batches(self, epoch: int, start: int = 0) -> list[Tensor]:
        """Return the rows of an epoch's batches, of all processes, from batch number start on."""
        rows = self._draw_order(epoch)
        return [rows[k * self.batch : (k + 1) * self.batch] for k in range(start, len(self))]

    def take_shard(self, rows: Tensor) -> Tensor:
        """Return this process's entries of what has an entry for every sample of a batch."""
        return rows[self.shard[0] :: self.shard[1]]

    def _draw_order(self, epoch: int) -> Tensor:
        rows = torch.arange(self.rows)
        if self.samples < len(rows):
            draw = torch.randperm(len(rows), generator=make_generator("limit", self.seed))
            rows = draw[: self.samples].sort().values
        if self.shuffle:
            order = torch.randperm(len(rows), generator=make_generator("order", self.seed, epoch))
            rows = rows[order]
        return rows
