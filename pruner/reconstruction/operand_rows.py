"""OperandMap: where a product's operand stands in the result of the linear operator behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor


@dataclass(frozen=True)
class OperandMap:
    """An operand [runs, tokens, width] as heads (channels) and parts (rows) of a linear result.

    A run is one of the products that are made side by side: of one head, in one part (a sample, a
    window). Several runs may share a head and part (key heads that serve several query heads).

    Attributes:
        channels: Of the linear result: [heads, width] int64.
        rows: Of the linear result, its axes but for the channels' flattened: [parts, tokens] int64.
        head: Of every run: [runs] int64.
        part: Of every run: [runs] int64.
        runs: One run of every part and head: [parts, heads] int64.
    """

    channels: Tensor
    rows: Tensor
    head: Tensor
    part: Tensor
    runs: Tensor

    @classmethod
    def build(cls, index: Tensor, shape: Sequence[int], axis: int) -> OperandMap | None:
        """Take an index apart; None where heads are no channels, or tokens no rows.

        Args:
            index: The flat positions of the operand's numbers in the linear result:
                [runs, tokens, width] int64.
            shape: Of the linear result.
            axis: Of its channels.
        """
        inner, count = prod(shape[axis + 1 :]), shape[axis]
        channel = index // inner % count
        row = index // (inner * count) * inner + index % inner
        channels, head = torch.unique(channel[:, 0], dim=0, return_inverse=True)
        rows, part = torch.unique(row[:, :, 0], dim=0, return_inverse=True)
        plain = (channel == channels[head][:, None]).all() and (row == rows[part][:, :, None]).all()
        runs = torch.full((len(rows), len(channels)), -1, dtype=torch.int64, device=index.device)
        runs[part, head] = torch.arange(len(index), device=index.device)
        if not plain or (runs < 0).any() or len(torch.unique(channels)) < channels.numel():
            return None
        return cls(channels, rows, head, part, runs)
