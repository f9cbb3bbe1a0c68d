"""Importance: what each index of each Dim is worth, as plain data."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import PrunerError
from ..utils import read_tensors, write_tensors

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Importance:
    """Scores of one network under one criterion.

    criterion
        The criterion's name.
    parts
        ``parts[dim][cell]``: float64 [dim size], all >= 0: the part of the estimated rise of the
        loss, when an index of the Dim is cut, that the tensors of that cell account for. Cell
        ``""`` holds the tensors of no cell. Parts add up over cells, indices and Dims.
    blocks
        Measured rise of the loss when a Block is bypassed (it may be negative), where measured.
    rises
        ``rises[dim]``: float64 [options of the Dim], the rise of the loss when that Dim alone is
        cut to each of its options, 0 for the last, the uncut one. Where a Dim has it, it counts,
        and parts give but the order of the indices.
    """

    criterion: str
    parts: Mapping[str, Mapping[str, Scores]] = field(repr=False)
    blocks: Mapping[str, float] = field(default_factory=dict, repr=False)
    rises: Mapping[str, Scores] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for dim, cells in self.parts.items():
            if not cells:
                raise PrunerError(f"importance of dim {dim}: it has no cells (give {{'': zeros}})")
            sizes = {cell: np.shape(values) for cell, values in cells.items()}
            if len(set(sizes.values())) != 1 or len(next(iter(sizes.values()))) != 1:
                raise PrunerError(f"importance of dim {dim}: one length expected, got {sizes}")
            for cell, values in cells.items():
                if not (np.all(np.isfinite(values)) and np.all(np.asarray(values) >= 0)):
                    raise PrunerError(
                        f"importance of dim {dim} in cell {cell!r} by {self.criterion!r}: scores "
                        "must be finite and >= 0 (a diverged network, or a loss that overflows?)"
                    )
        for dim, rise in self.rises.items():
            if not (np.all(np.isfinite(rise)) and np.all(np.asarray(rise) >= 0)):
                raise PrunerError(
                    f"importance of dim {dim} by {self.criterion!r}: rises must be finite and >= 0 "
                    f"(a diverged network?), got {np.asarray(rise)}"
                )

    def total(self, dim: str) -> Scores:
        """The score of each index of a Dim, over all its cells: float64 [dim size]."""
        if dim not in self.parts:
            raise PrunerError(f"no importance for dim {dim!r}; there is for {sorted(self.parts)}")
        cells = self.parts[dim]
        return np.sum([cells[cell] for cell in sorted(cells)], axis=0, dtype=np.float64)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to a safetensors file, atomically: a tensor a (dim, cell) pair and a rise."""
        tensors = {
            json.dumps([dim, cell]): torch.from_numpy(np.array(values, np.float64))
            for dim, cells in self.parts.items()
            for cell, values in cells.items()
        }
        for dim, rise in self.rises.items():
            tensors[json.dumps([dim])] = torch.from_numpy(np.array(rise, np.float64))
        header = {"criterion": self.criterion, "blocks": dict(self.blocks)}
        write_tensors(path, "importance", tensors, header)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Importance:
        """Read what `save` wrote; PrunerError where the file is missing, truncated or edited."""
        tensors, header = read_tensors(path, "importance")
        parts: dict[str, dict[str, Scores]] = {}
        rises: dict[str, Scores] = {}
        for key, tensor in sorted(tensors.items()):
            dim, *cell = json.loads(key)
            if cell:
                parts.setdefault(dim, {})[cell[0]] = tensor.numpy()
            else:
                rises[dim] = tensor.numpy()
        return Importance(header["criterion"], parts, header["blocks"], rises)
