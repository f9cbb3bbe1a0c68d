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
from ..tensorfile import read_tensors, write_tensors

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
    """

    criterion: str
    parts: Mapping[str, Mapping[str, Scores]] = field(repr=False)
    blocks: Mapping[str, float] = field(default_factory=dict, repr=False)

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

    def total(self, dim: str) -> Scores:
        """The score of each index of a Dim, over all its cells: float64 [dim size]."""
        if dim not in self.parts:
            raise PrunerError(f"no importance for dim {dim!r}; there is for {sorted(self.parts)}")
        cells = self.parts[dim]
        return np.sum([cells[cell] for cell in sorted(cells)], axis=0, dtype=np.float64)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to a safetensors file, atomically: one tensor a (dim, cell) pair."""
        tensors = {
            json.dumps([dim, cell]): torch.from_numpy(np.array(values, np.float64))
            for dim, cells in self.parts.items()
            for cell, values in cells.items()
        }
        header = {"criterion": self.criterion, "blocks": dict(self.blocks)}
        write_tensors(path, "importance", tensors, header)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Importance:
        """Read what `save` wrote; PrunerError where the file is missing, truncated or edited."""
        tensors, header = read_tensors(path, "importance")
        parts: dict[str, dict[str, Scores]] = {}
        for key, tensor in sorted(tensors.items()):
            dim, cell = json.loads(key)
            parts.setdefault(dim, {})[cell] = tensor.numpy()
        return Importance(header["criterion"], parts, header["blocks"])
