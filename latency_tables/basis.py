"""The shapes that a layer's latency is made of, as a function of its widths."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Kernels work on whole tiles of channels: the cost follows the width rounded up to them, often to
# two of them at once (a vector's width, and how many vectors a micro-kernel handles).
TILES: tuple[tuple[int, ...], ...] = (
    *((1,), (4,), (8,), (16,), (32,), (64,)),
    *((1, 8), (1, 16), (8, 16), (8, 32), (16, 32), (16, 64)),
)
# Widths that are no multiple of a vector leave the engine's blocked layout, and pay for it.
ALIGNMENTS = (0, 4, 8, 16, 32)


@dataclass(frozen=True)
class Basis:
    """tiles: widths are rounded up to each of them; alignment: a width that is no multiple of it
    has a cost of its own (0: none has)."""

    tiles: tuple[int, ...]
    alignment: int = 0

    def features(self, sizes: Floats) -> Floats:
        """[n, k] to [n, f], all non-negative: a constant, for each tile the products of every
        subset of the rounded widths, and for each misaligned width one and the width."""
        columns = [np.ones(len(sizes))]
        width = sizes.shape[1]
        for tile in self.tiles:
            rounded = np.ceil(sizes / tile) * tile
            for count in range(1, width + 1):
                columns += [rounded[:, s].prod(axis=1) for s in combinations(range(width), count)]
        if self.alignment:
            off = sizes % self.alignment != 0
            columns += [*off.T.astype(float), *(off * sizes).T]
        return np.stack(columns, axis=1)

    def coordinates(self, sizes: Floats) -> Floats:
        """[n, k] to points between which latency varies smoothly: doublings of rounded widths."""
        tile = min(self.tiles)
        points = np.log2(np.ceil(sizes / tile) * tile)
        if not self.alignment:
            return points
        return np.concatenate([points, 0.5 * (sizes % self.alignment != 0)], axis=1)


PLAIN = Basis((1,))
