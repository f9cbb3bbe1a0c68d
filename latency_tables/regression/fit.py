"""Milliseconds as a function of widths: a staircase fitted to samples of one specification."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from scipy.optimize import nnls
from scipy.spatial.distance import cdist

from .basis import ALIGNMENTS, DEPTHS, PLAIN, TILES, Basis, Floats
from .huber import huber_weights

_FOLDS = 5
_REWEIGHTINGS = 2
_LENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # in doublings of a width
_SHARES = (0.3, 0.6, 0.9, 0.99)  # of the residual's variance that is not noise
_OFFSETS = (0.5, 2.0)
_REPEATS = 8  # repeated samples from which the noise is known
_MANY = 400  # points from which the process is chosen on a part of them: it takes their cube


@dataclass(frozen=True)
class Process:
    """What interpolates a trend's relative residuals: a Gaussian process' centers and weights.

    Attributes:
        centers: The samples' coordinates [n, c].
        weights: Of the kernel at each of them [n].
        length: How far a sample reaches, in doublings of a width.
        rounded: Of the coordinates (``Basis.coordinates``).
        offset: As ``rounded``.
    """

    centers: Floats = field(repr=False)
    weights: Floats = field(repr=False)
    length: float
    rounded: bool
    offset: float


@dataclass(frozen=True)
class Curve:
    """A fitted latency: a trend, and an interpolation of what the trend leaves.

    The trend is a sum, with non-negative coefficients, of the basis' features, so it never falls
    below zero and extrapolates with the widths. On top of it a Gaussian process over the
    logarithms of the widths follows the relative residuals of the samples, and fades to nothing
    away from them.
    """

    basis: Basis
    coefficients: Floats
    scale: Floats
    lowest_ms: float
    process: Process | None = None

    def predict(self, sizes: Floats) -> Floats:
        """Predict milliseconds [n] at widths [n, k]."""
        trend = (self.basis.features(sizes) / self.scale) @ self.coefficients
        if self.process is not None:
            own = self.process
            points = self.basis.coordinates(sizes, own.rounded, own.offset)
            residual = _exponential_kernel(points, own.centers, own.length) @ own.weights
            trend = trend * (1 + np.clip(residual, -0.5, 1.0))
        return np.maximum(trend, self.lowest_ms)


@dataclass(frozen=True)
class ScaledCurve:
    """A curve times a factor."""

    curve: Curve | ScaledCurve
    factor: float

    def predict(self, sizes: Floats) -> Floats:
        """Predict milliseconds [n] at widths [n, k]."""
        return self.factor * self.curve.predict(sizes)


@dataclass(frozen=True)
class _Points:
    """Samples with equal widths made one.

    Attributes:
        sizes: Widths [n, k].
        ms: Their median milliseconds [n].
        count: How many samples [n].
        floor_ms: Errors are relative to ``ms + floor_ms``.
        variance: Of a single sample around its point's value, relative; ``None`` where too few
            repeat.
    """

    sizes: Floats
    ms: Floats
    count: Floats
    floor_ms: float
    variance: float | None

    @property
    def weight(self) -> Floats:
        """Of a point's error: relative, and by the root of how often it was measured."""
        return np.sqrt(self.count) / (self.ms + self.floor_ms)


def fit_curve(sizes: Floats, ms: Floats, *, floor_ms: float, basis: Basis | None = None) -> Curve:
    """Fit a trend and a process to samples, n >= 1.

    Args:
        sizes: Widths [n, k].
        ms: Milliseconds [n].
        floor_ms: Errors are relative to ``ms + floor_ms``: an error of a layer that takes next to
            nothing matters next to nothing.
        basis: Chosen by cross-validation where not given.
    """
    points = _merge_duplicates(sizes, ms, floor_ms)
    if basis is None:
        basis = _choose_basis(points)
    matrix = basis.features(points.sizes)
    coefficients, scale = _solve_trend(matrix, points.ms, points.weight)
    trend = (matrix / scale) @ coefficients
    trust = np.ones(len(trend))
    for _ in range(_REWEIGHTINGS if len(points.ms) > 2 * matrix.shape[1] else 0):
        trust = huber_weights((points.ms - trend) / (points.ms + floor_ms))
        coefficients, scale = _solve_trend(matrix, points.ms, points.weight * np.sqrt(trust))
        trend = (matrix / scale) @ coefficients
    process = None
    if len(points.ms) >= 4 and np.all(trend > 0):
        # A disturbed sample stays in, with the say that its distance from the others leaves it.
        noise = 1 / np.sqrt(points.count * trust)
        process = _fit_process(basis, points, (points.ms - trend) / (trend + floor_ms), noise)
    return Curve(basis, coefficients, scale, 0.2 * float(points.ms.min()), process)


def fit_trend(
    sizes: Floats, ms: Floats, *, floor_ms: float, basis: Basis | None = None
) -> tuple[Basis, Floats, Floats]:
    """Fit a trend: its basis (the best if not given), features [n, f], milliseconds [n]."""
    points = _merge_duplicates(sizes, ms, floor_ms)
    if basis is None:
        basis = _choose_basis(points)
    coefficients, scale = _solve_trend(basis.features(points.sizes), points.ms, points.weight)
    features = basis.features(sizes) / scale
    return basis, features, features @ coefficients


def _choose_basis(points: _Points) -> Basis:
    """Choose the basis whose trend predicts left-out points best; the plainest of few points.

    Tiles and alignment are chosen in turn: all pairs would cost ten times as much.
    """
    known: dict[Basis, float] = {}

    def choose(candidates: Iterable[Basis]) -> Basis:
        return min(candidates, key=lambda b: known.setdefault(b, _cross_validate(b, points)))

    chosen = choose(Basis(tiles) for tiles in TILES)
    aligned = product(ALIGNMENTS, DEPTHS)
    chosen = choose(Basis(chosen.tiles, a, depth) for a, depth in aligned if a or not depth)
    return choose(Basis(tiles, chosen.alignment, chosen.depth) for tiles in TILES)


def _merge_duplicates(sizes: Floats, ms: Floats, floor_ms: float) -> _Points:
    """Make one point of all samples of the same widths: their median."""
    unique, index_of, count = np.unique(sizes, axis=0, return_inverse=True, return_counts=True)
    groups = [ms[index_of.ravel() == index] for index in range(len(unique))]
    medians = np.array([np.median(group) for group in groups])
    off = [
        (group - middle) / (middle + floor_ms)
        for group, middle in zip(groups, medians, strict=True)
        if len(group) > 1
    ]
    free = sum(len(group) - 1 for group in off)
    variance = None
    if free >= _REPEATS:
        # Robust: a quarter of the samples may be anything.
        all_off = np.concatenate(off)
        variance = (1.4826 * float(np.median(np.abs(all_off)))) ** 2 * len(all_off) / free
    return _Points(unique, medians, count.astype(np.float64), floor_ms, variance)


def _cross_validate(basis: Basis, points: _Points) -> float:
    """Compute the mean relative error on left-out points; infinite where there are too few."""
    count = len(points.ms)
    matrix = basis.features(points.sizes)
    if basis != PLAIN and count < 1.2 * matrix.shape[1] + 2:
        return float("inf")
    # Points are in the order of their widths: folds by chance leave no gaps.
    fold = np.random.default_rng(0).permutation(count) % min(_FOLDS, max(count, 2))
    total = 0.0
    for k in range(int(fold.max()) + 1):
        train, test = fold != k, fold == k
        if not train.any():
            continue
        coefficients, scale = _solve_trend(matrix[train], points.ms[train], points.weight[train])
        off = (matrix[test] / scale) @ coefficients - points.ms[test]
        error = np.abs(off) / (points.ms[test] + points.floor_ms)
        # An outlier decides nothing.
        total += float(np.dot(np.minimum(error, 0.3), np.sqrt(points.count[test])))
    return total / float(np.sqrt(points.count).sum())


def _solve_trend(matrix: Floats, ms: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Solve non-negative least squares in relative error, with a ridge that splits ties."""
    scale = matrix.max(axis=0)
    scale[scale == 0] = 1.0
    rows = matrix / scale * weight[:, None]
    ridge = 1e-3 * np.sqrt(len(ms)) * float(np.median(weight)) * np.eye(matrix.shape[1])
    target = np.concatenate([ms * weight, np.zeros(len(ridge))])
    return nnls(np.concatenate([rows, ridge]), target)[0], scale


def _exponential_kernel(left: Floats, right: Floats, length: float) -> Floats:
    # Exponential of the distance (Matern 1/2): stairs have corners, which smoother kernels ring at.
    distance: Floats = cdist(left, right)
    return np.exp(distance / -length)


def _fit_process(basis: Basis, points: _Points, residual: Floats, noise: Floats) -> Process | None:
    """Fit the process with the least leave-one-out error; ``None``: only noise is left."""
    some = np.arange(len(residual))
    if len(some) > _MANY:
        some = np.random.default_rng(0).permutation(len(some))[:_MANY]
    own, share_of = residual[some], np.sqrt(points.count[some])
    variance = float(np.average(own**2, weights=share_of))
    if variance == 0:
        return None
    least = variance
    best: tuple[float, float, bool, float] | None = None
    for rounded, offset in product((True, False), _OFFSETS if basis.alignment else _OFFSETS[:1]):
        centers = basis.coordinates(points.sizes[some], rounded, offset)
        for length in _LENGTHS:
            kernel = _exponential_kernel(centers, centers, length)
            for share in _SHARES:
                inverse = np.linalg.inv(_add_noise(kernel, share, noise[some]))
                # Leave-one-out errors in closed form: Rasmussen and Williams (2006), eq. 5.12.
                error = (inverse @ own) / np.diag(inverse)
                score = float(np.average(error**2, weights=share_of))
                if score < least:
                    least, best = score, (share, length, rounded, offset)
    if best is None:
        if points.variance is None or variance <= 4 * points.variance / np.median(points.count):
            return None
        # Neighbours tell nothing, but repeated samples say that the points are no noise.
        share = max(variance / (variance + points.variance), _SHARES[0])
        best = (min(share, _SHARES[-1]), _LENGTHS[0], False, _OFFSETS[-1])
    share, length, rounded, offset = best
    centers = basis.coordinates(points.sizes, rounded, offset)
    covariance = _add_noise(_exponential_kernel(centers, centers, length), share, noise)
    weights: Floats = np.asarray(share * np.linalg.solve(covariance, residual), np.float64)
    return Process(centers, weights, length, rounded, offset)


def _add_noise(kernel: Floats, share: float, noise: Floats) -> Floats:
    return share * kernel + np.diag((1 - share) * noise**2 + 1e-9)
