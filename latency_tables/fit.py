"""Milliseconds as a function of widths: a staircase fitted to samples of one specification."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from .basis import ALIGNMENTS, PLAIN, TILES, Basis

Floats = NDArray[np.float64]

_FOLDS = 5
_REWEIGHTINGS = 2
_LENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # in doublings of a width
_SHARES = (0.3, 0.6, 0.9, 0.99)  # of the residual's variance that is not noise


@dataclass(frozen=True)
class Curve:
    """A fitted latency: a trend, and an interpolation of what the trend leaves.

    The trend is a sum, with non-negative coefficients, of the basis' features, so it never falls
    below zero and extrapolates with the widths. On top of it a Gaussian process over the
    logarithms of the rounded widths follows the relative residuals of the samples, and fades to
    nothing away from them.
    """

    basis: Basis
    coefficients: Floats
    scale: Floats
    lowest_ms: float
    centers: Floats = field(repr=False)
    weights: Floats = field(repr=False)
    length: float = 1.0

    def predict(self, sizes: Floats) -> Floats:
        """``sizes`` [n, k] to milliseconds [n]."""
        trend = (self.basis.features(sizes) / self.scale) @ self.coefficients
        if len(self.centers):
            residual = _kernel(self.basis.coordinates(sizes), self.centers, self.length)
            trend = trend * (1 + np.clip(residual @ self.weights, -0.5, 1.0))
        return np.maximum(trend, self.lowest_ms)


def fit_curve(
    sizes: Floats,
    ms: Floats,
    *,
    floor_ms: float,
    noise: Floats | None = None,
    basis: Basis | None = None,
) -> Curve:
    """Fits samples ``sizes`` [n, k] and ``ms`` [n], n >= 1.

    floor_ms
        Errors are relative to ``ms + floor_ms``: an error of a layer that takes next to nothing
        matters next to nothing.
    noise
        [n] standard deviation of the samples, against each other (default: all 1). Samples with
        less than 1 are singled out: the curve goes by them where they are, whatever the others.
    basis
        Chosen by cross-validation where not given.
    """
    weight = 1 / (ms + floor_ms)
    noise = own_noise = np.ones(len(ms)) if noise is None else noise
    if basis is None:
        basis = best_basis(sizes, ms, weight)
    matrix = basis.features(sizes)
    coefficients, scale = _trend(matrix, ms, weight)
    trend = (matrix / scale) @ coefficients
    for _ in range(_REWEIGHTINGS if len(ms) > 2 * matrix.shape[1] else 0):
        # What was singled out is never an outlier.
        trust = np.where(own_noise < 1, 1.0, _trust((ms - trend) * weight))
        coefficients, scale = _trend(matrix, ms, weight * np.sqrt(trust))
        trend = (matrix / scale) @ coefficients
        # A disturbed sample stays in, with the say that its distance from the others leaves it.
        noise = own_noise / np.sqrt(trust)
    centers, weights, length = np.zeros((0, sizes.shape[1])), np.zeros(0), 1.0
    if len(ms) >= 4 and np.all(trend > 0):
        points = basis.coordinates(sizes)
        found = _process(points, (ms - trend) / (trend + floor_ms), noise)
        if found is not None:
            centers, (weights, length) = points, found
    return Curve(basis, coefficients, scale, 0.2 * float(ms.min()), centers, weights, length)


def best_basis(sizes: Floats, ms: Floats, weight: Floats) -> Basis:
    """The basis whose trend predicts left-out samples best; the plainest where there are few.

    Tiles and alignment are chosen in turn: all pairs would cost ten times as much.
    """

    def best(candidates: Iterable[Basis]) -> Basis:
        return min(candidates, key=lambda basis: _left_out_error(basis, sizes, ms, weight))

    chosen = best(Basis(tiles) for tiles in TILES)
    chosen = best(Basis(chosen.tiles, alignment) for alignment in ALIGNMENTS)
    return best(Basis(tiles, chosen.alignment) for tiles in TILES)


def _left_out_error(basis: Basis, sizes: Floats, ms: Floats, weight: Floats) -> float:
    """Mean relative error on left-out samples; infinite where there are too few."""
    count = len(ms)
    matrix = basis.features(sizes)
    if basis != PLAIN and count < 1.5 * matrix.shape[1] + 2:
        return float("inf")
    fold = np.arange(count) % min(_FOLDS, max(count, 2))
    total = 0.0
    for k in range(int(fold.max()) + 1):
        train, test = fold != k, fold == k
        if not train.any():
            continue
        coefficients, scale = _trend(matrix[train], ms[train], weight[train])
        error = ((matrix[test] / scale) @ coefficients - ms[test]) * weight[test]
        total += float(np.minimum(np.abs(error), 0.3).sum())  # an outlier decides nothing
    return total / count


def _trend(matrix: Floats, ms: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Non-negative least squares in relative error, with a ridge that splits ties."""
    scale = matrix.max(axis=0)
    scale[scale == 0] = 1.0
    rows = matrix / scale * weight[:, None]
    ridge = 1e-3 * np.sqrt(len(ms)) * float(np.median(weight)) * np.eye(matrix.shape[1])
    target = np.concatenate([ms * weight, np.zeros(len(ridge))])
    return nnls(np.concatenate([rows, ridge]), target)[0], scale


def _trust(residual: Floats) -> Floats:
    """Huber's weights: 1 within two robust standard deviations, falling off beyond."""
    spread = 1.4826 * float(np.median(np.abs(residual)))
    return (
        np.minimum(1.0, 2 * spread / np.maximum(np.abs(residual), 1e-12))
        if spread
        else (np.ones(len(residual)))
    )


def _kernel(left: Floats, right: Floats, length: float) -> Floats:
    # Exponential of the distance (Matern 1/2): stairs have corners, which smoother kernels ring at.
    squared = ((left[:, None, :] - right[None, :, :]) ** 2).sum(axis=2)
    return np.exp(-np.sqrt(squared) / length)


def _process(points: Floats, residual: Floats, noise: Floats) -> tuple[Floats, float] | None:
    """Weights and length with the least leave-one-out error; None: only noise is left."""
    variance = float(np.mean(residual**2))
    if variance == 0:
        return None
    # Without samples that were singled out as surer than the others, no structure may win.
    nothing = variance if noise.min() >= 1 else float("inf")
    best: tuple[float, tuple[Floats, float] | None] = (nothing, None)
    for length in _LENGTHS:
        kernel = _kernel(points, points, length)
        for share in _SHARES:
            covariance = share * kernel + np.diag((1 - share) * noise**2 + 1e-9)
            inverse = np.linalg.inv(covariance)
            weights = inverse @ residual
            # Leave-one-out errors in closed form: Rasmussen and Williams (2006), eq. 5.12.
            score = float(np.mean((weights / np.diag(inverse)) ** 2))
            if score < best[0]:
                best = (score, (share * weights, length))
    return best[1]
