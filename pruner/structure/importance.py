"""The importance of every index of every Dim, as plain data."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import PrunerError, first_line
from ..utils import parse_json, read_tensors, write_tensors

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Importance:
    """The scores of one network under one criterion.

    Attributes:
        criterion: The criterion's name.
        parts: ``parts[dim][cell]``: float64 [dim size], all >= 0: the part of the loss's estimated
            rise, when an index of the Dim is cut, that the tensors of that cell account for. Cell
            ``""`` holds the tensors of no cell. Parts add up over cells, indices and Dims.
        blocks: The loss's measured rise when a Block is bypassed (it may be negative), where
            measured.
        loss_curves: ``loss_curves[dim]``: float64 [options of the Dim], the loss's rise when that
            Dim alone is cut to each of its options, 0 for the last, the uncut one. Where a Dim has
            one, it counts, and parts give but the order of the indices.
    """

    criterion: str
    parts: Mapping[str, Mapping[str, Scores]] = field(repr=False)
    blocks: Mapping[str, float] = field(repr=False)
    loss_curves: Mapping[str, Scores] = field(repr=False)

    def __init__(
        self,
        criterion: str,
        parts: Mapping[str, Mapping[str, Scores]],
        blocks: Mapping[str, float] | None = None,
        loss_curves: Mapping[str, Scores] | None = None,
        *,
        rises: Mapping[str, Scores] | None = None,
    ) -> None:
        """Check and store the scores; rises is the former name of loss_curves.

        Raises:
            PrunerError: A Dim without cells, cells of different lengths, a value that is negative
                or not finite.
        """
        curves = (loss_curves if rises is None else rises) or {}
        for name, value in zip(self.__annotations__, (criterion, parts, blocks or {}, curves)):
            object.__setattr__(self, name, value)
        for dim, cells in parts.items():
            if not cells:
                raise PrunerError(f"importance of dim {dim}: it has no cells (give {{'': zeros}})")
            sizes = {cell: np.shape(values) for cell, values in cells.items()}
            if len(set(sizes.values())) != 1 or len(next(iter(sizes.values()))) != 1:
                raise PrunerError(f"importance of dim {dim}: one length expected, got {sizes}")
            for cell, values in cells.items():
                if not _is_valid(values):
                    raise PrunerError(
                        f"importance of dim {dim} in cell {cell!r} by {criterion!r}: scores "
                        "must be finite and >= 0 (a diverged network, or a loss that overflows?)"
                    )
        for dim, curve in curves.items():
            if not _is_valid(curve):
                raise PrunerError(
                    f"importance of dim {dim} by {criterion!r}: loss curves must be finite and "
                    f">= 0 (a diverged network?), got {np.asarray(curve)}"
                )

    @property
    def rises(self) -> Mapping[str, Scores]:
        """The former name of loss_curves."""
        return self.loss_curves

    def total(self, dim: str) -> Scores:
        """Return the score of each index of a Dim, over all its cells: float64 [dim size]."""
        if dim not in self.parts:
            raise PrunerError(f"no importance for dim {dim!r}; there is for {sorted(self.parts)}")
        cells = self.parts[dim]
        return np.sum([cells[cell] for cell in sorted(cells)], axis=0, dtype=np.float64)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to a safetensors file, atomically: a tensor a (dim, cell) pair and a loss curve."""
        tensors = {
            json.dumps([dim, cell]): torch.from_numpy(np.array(values, np.float64))
            for dim, cells in self.parts.items()
            for cell, values in cells.items()
        }
        for dim, curve in self.loss_curves.items():
            tensors[json.dumps([dim])] = torch.from_numpy(np.array(curve, np.float64))
        header = {"criterion": self.criterion, "blocks": dict(self.blocks)}
        write_tensors(path, "importance", tensors, header)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Importance:
        """Read what `save` wrote; PrunerError where the file is missing, truncated or edited."""
        tensors, header = read_tensors(path, "importance")
        parts: dict[str, dict[str, Scores]] = {}
        loss_curves: dict[str, Scores] = {}
        try:
            for key, tensor in sorted(tensors.items()):
                dim, *cell = parse_json(key)
                if cell:
                    parts.setdefault(dim, {})[cell[0]] = tensor.numpy()
                else:
                    loss_curves[dim] = tensor.numpy()
            blocks = {str(name): float(loss) for name, loss in header["blocks"].items()}
            return Importance(header["criterion"], parts, blocks, loss_curves)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PrunerError(
                f"{path}: no importance of this version: {first_line(error)}"
            ) from error


def _is_valid(values: Scores) -> bool:
    """Return whether scores are finite and not negative."""
    return bool(np.all(np.isfinite(values)) and np.all(np.asarray(values) >= 0))
