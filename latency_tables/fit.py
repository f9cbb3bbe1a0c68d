"""Milliseconds as a function of widths: a staircase fitted to samples of one specification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Floats = NDArray[np.float64]

# Kernels work on whole tiles of channels: the cost follows the width rounded up to them, often to
# two of them at once (a vector's width, and how many vectors a micro-kernel handles).
TILES: tuple[tuple[int, ...], ...] = (
    (1,), (4,), (8,), (16,), (32,), (64,), (1, 8), (1, 16), (8, 32), (16, 32), (16, 64), (8, 16),
)  # fmt: skip
_FOLDS = 5


@dataclass(frozen=True)
class Curve:
    """A fitted latency. ``tiles`` are those of the trend; the rest interpolates what it leaves.

    The trend is a sum, with non-negative coefficients, of products of rounded-up widths, so it
    never falls below zero and extrapolates with the widths. On top of it, a Gaussian process over
    the logarithms of the rounded widths follows the relative residuals, and fades to nothing away
    from the samples.
    """

    tiles: tuple[int, ...]
    coefficients: Floats
    scale: Floats
    grid: int
    centers: Floats = field(repr=False)
    weights: Floats = field(repr=False)
    amplitude: float
    length: float
    lowest: float

    def predict(self, sizes: Floats) -> Floats:
        """``sizes`` [n, k] to milliseconds [n]."""
        trend = (features(sizes, self.tiles) / self.scale) @ self.coefficients
        if len(self.centers):
            kernel = _kernel(_coordinates(sizes, self.grid), self.centers, self.length)
            residual = self.amplitude**2 * kernel @ self.weights
            trend = trend * (1 + np.clip(residual, -0.5, 1.0))
        return np.maximum(trend, self.lowest)


def features(sizes: Floats, tiles: Sequence[int]) -> Floats:
    """[n, k] to [n, f]: one, and for each tile the products of every subset of rounded widths."""
    columns = [np.ones(len(sizes))]
    width = sizes.shape[1]
    for tile in tiles:
        rounded = np.ceil(sizes / tile) * tile
        for count in range(1, width + 1):
            for subset in combinations(range(width), count):
                columns.append(rounded[:, subset].prod(axis=1))
    return np.stack(columns, axis=1)


def fit_curve(
    sizes: Floats,
    ms: Floats,
    *,
    floor_ms: float,
    noise: Floats | None = None,
    tiles: tuple[int, ...] | None = None,
) -> Curve:
    """Fits samples ``sizes`` [n, k] and ``ms`` [n], n >= 1.

    floor_ms
        Errors are relative to ``ms + floor_ms``: an error of a layer that takes next to nothing
        matters next to nothing.
    noise
        [n] relative standard deviation of the samples, against each other (default: all equal).
    tiles
        The tiles of the trend; chosen by cross-validation where not given.
    """
    weight = 1 / (ms + floor_ms)
    noise = np.ones(len(ms)) if noise is None else noise
    if tiles is None:
        tiles = best_tiles(sizes, ms, weight)
    coefficients, scale = _trend(sizes, ms, weight, tiles)
    trend = (features(sizes, tiles) / scale) @ coefficients
    grid = min(tiles) if len(set(tiles)) == 1 else sorted(set(tiles))[0]
    lowest = 0.2 * float(ms.min())
    none = np.zeros((0, sizes.shape[1]))
    flat = Curve(tiles, coefficients, scale, grid, none, np.zeros(0), 0.0, 1.0, lowest)
    if len(ms) < 4 or not np.all(trend > 0):
        return flat
    residual = (ms - trend) / trend * (trend / (trend + floor_ms))
    found = _process(_coordinates(sizes, grid), residual, noise)
    if found is None:
        return flat
    amplitude, length, weights = found
    return Curve(
        tiles, coefficients, scale, grid, _coordinates(sizes, grid), weights, amplitude, length,
        lowest,
    )  # fmt: skip


def best_tiles(sizes: Floats, ms: Floats, weight: Floats) -> tuple[int, ...]:
    """The tiles whose trend predicts left-out samples best; the plainest where there are few."""
    scores = tile_scores(sizes, ms, weight)
    return TILES[int(np.argmin(scores))]


def tile_scores(sizes: Floats, ms: Floats, weight: Floats) -> Floats:
    """Root mean square relative error of each of ``TILES`` on left-out samples; inf: too few."""
    count = len(ms)
    fold = np.arange(count) % min(_FOLDS, max(count, 2))
    scores = np.full(len(TILES), np.inf)
    for index, tiles in enumerate(TILES):
        wanted = 1 + len(tiles) * (2 ** sizes.shape[1] - 1)
        if index and count < 1.5 * wanted + 2:
            continue
        errors = []
        for k in np.unique(fold):
            train, test = fold != k, fold == k
            if not train.any():
                continue
            coefficients, scale = _trend(sizes[train], ms[train], weight[train], tiles)
            predicted = (features(sizes[test], tiles) / scale) @ coefficients
            errors.append((predicted - ms[test]) * weight[test])
        flat = np.concatenate(errors) if errors else np.array([np.inf])
        scores[index] = float(np.sqrt(np.mean(np.minimum(np.abs(flat), 1.0) ** 2)))
    return scores


def _trend(
    sizes: Floats, ms: Floats, weight: Floats, tiles: tuple[int, ...]
) -> tuple[Floats, Floats]:
    """Non-negative least squares in relative error, with a ridge that splits ties."""
    matrix = features(sizes, tiles)
    scale = matrix.max(axis=0)
    matrix = matrix / scale
    rows = matrix * weight[:, None]
    ridge = 1e-3 * np.sqrt(len(ms)) * float(np.median(weight)) * np.eye(matrix.shape[1])
    solution, _ = nnls(
        np.concatenate([rows, ridge]), np.concatenate([ms * weight, np.zeros(len(ridge))])
    )
    return solution, scale


def _coordinates(sizes: Floats, grid: int) -> Floats:
    return np.log2(np.ceil(sizes / grid) * grid)


def _kernel(left: Floats, right: Floats, length: float) -> Floats:
    # Exponential of the distance (Matern 1/2): stairs have corners, which smoother kernels ring at.
    squared = ((left[:, None, :] - right[None, :, :]) ** 2).sum(axis=2)
    return np.exp(-np.sqrt(squared) / length)


def _process(points: Floats, residual: Floats, noise: Floats) -> tuple[float, float, Floats] | None:
    """Amplitude, length and weights with the best leave-one-out likelihood; None: no structure."""
    best: tuple[float, tuple[float, float, Floats] | None] = (
        _loo_score(np.eye(len(points)), residual, None),
        None,
    )
    spread = float(np.sqrt(np.mean(residual**2)))
    if spread == 0:
        return None
    for length in (0.25, 0.5, 1.0, 2.0, 4.0):
        kernel = _kernel(points, points, length)
        for share in (0.3, 0.6, 0.9, 0.99):
            amplitude = spread * np.sqrt(share)
            covariance = amplitude**2 * kernel + np.diag(spread**2 * (1 - share) * noise**2)
            inverse = np.linalg.inv(covariance + 1e-12 * np.eye(len(points)))
            score = _loo_score(inverse, residual, inverse @ residual)
            if score < best[0]:
                best = (score, (amplitude, length, inverse @ residual))
    return best[1]


def _loo_score(inverse: Floats, residual: Floats, weights: Floats | None) -> float:
    """Mean squared leave-one-out error (Rasmussen and Williams, 2006, eq. 5.12)."""
    errors = residual if weights is None else weights / np.diag(inverse)
    return float(np.mean(errors**2))
