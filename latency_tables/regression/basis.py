"""The shapes that a layer's latency is made of, as a function of its widths."""

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
# Widths that are no multiple of a vector leave the engine's blocked layout, and pay for it; widths
# of less than a vector may get another algorithm altogether.
ALIGNMENTS = (0, 4, 8, 16, 32)
DEPTHS = (0, 1, 2)


@dataclass(frozen=True)
class Basis:
    """Which features a trend is a sum of.

    Attributes:
        tiles: Widths are rounded up to each of them.
        alignment: A width that is no multiple of it has a cost of its own (0: none has).
        depth: What that cost goes with: 0 the width, 1 its products with the other widths too; 2
            adds the same for widths below the alignment.
    """

    tiles: tuple[int, ...]
    alignment: int = 0
    depth: int = 0

    def features(self, sizes: Floats) -> Floats:
        """Compute the features [n, f] of widths [n, k], all non-negative.

        A constant, for each tile the products of every subset of the rounded widths, and what
        ``depth`` says for each width that is misaligned.
        """
        columns = [np.ones(len(sizes))]
        width = sizes.shape[1]
        for tile in self.tiles:
            rounded = np.ceil(sizes / tile) * tile
            for count in range(1, width + 1):
                columns += [rounded[:, s].prod(axis=1) for s in combinations(range(width), count)]
        for i in range(width if self.alignment else 0):
            groups = [sizes[:, i] % self.alignment != 0]
            if self.depth == 2:
                groups.append(sizes[:, i] < self.alignment)
            for outside in groups:
                columns += [outside.astype(float), outside * sizes[:, i]]
                for j in range(width if self.depth else 0):
                    if j != i:
                        columns += [outside * sizes[:, j], outside * sizes[:, i] * sizes[:, j]]
        return np.stack(columns, axis=1)

    def coordinates(self, sizes: Floats, rounded: bool = True, offset: float = 0.5) -> Floats:
        """Map widths [n, k] to points between which latency varies smoothly: their doublings.

        ``rounded`` up to the smallest tile; misaligned ones are ``offset`` doublings off.
        """
        tile = min(self.tiles) if rounded else 1
        points = [np.log2(np.ceil(sizes / tile) * tile)]
        if self.alignment:
            points.append(offset * (sizes % self.alignment != 0))
            if self.depth == 2:
                points.append(offset * (sizes < self.alignment))
        return np.concatenate(points, axis=1)


PLAIN = Basis((1,))
