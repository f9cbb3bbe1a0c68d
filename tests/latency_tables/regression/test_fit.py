"""The curve against functions that are known everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from latency_tables.regression.basis import PLAIN, Basis
from latency_tables.regression.fit import fit_curve


def grid(widest: int = 128, step: int = 8) -> np.ndarray:
    widths = np.arange(step, widest + 1, step)
    return np.array([[a, b] for a in widths for b in widths], dtype=float)


def tiled(sizes: np.ndarray, tile: int) -> np.ndarray:
    up = np.ceil(sizes / tile) * tile
    return 0.02 + 2e-5 * up[:, 0] * up[:, 1] + 1e-4 * up[:, 1]


@pytest.mark.parametrize("tile", [1, 8, 16, 32])
def test_stairs_are_found_from_a_few_dozen_samples(tile):
    sizes, random = grid(), np.random.default_rng(0)
    truth = tiled(sizes, tile)
    some = random.permutation(len(sizes))[:40]
    curve = fit_curve(sizes[some], truth[some], floor_ms=1e-4)
    assert np.abs(curve.predict(sizes) / truth - 1).max() < 0.03


def test_misaligned_widths_cost_extra():
    sizes = grid(128, 4)[:, :1]
    truth = (
        0.05
        + 0.002 * np.ceil(sizes[:, 0] / 16) * 16
        + 0.003 * sizes[:, 0] * (sizes[:, 0] % 16 != 0)
    )
    some = np.random.default_rng(1).permutation(len(sizes))[:200]
    curve = fit_curve(sizes[some], truth[some], floor_ms=1e-4)
    assert curve.basis.alignment == 16
    assert np.abs(curve.predict(sizes) / truth - 1).max() < 0.03


def test_noise_is_averaged_and_an_outlier_does_not_rule():
    sizes, random = grid(), np.random.default_rng(0)
    truth = tiled(sizes, 16)
    some = random.permutation(len(sizes))[:60]
    noisy = truth[some] * (1 + 0.02 * random.standard_normal(60))
    noisy[:3] *= 2
    curve = fit_curve(sizes[some], noisy, floor_ms=1e-4)
    assert np.median(np.abs(curve.predict(sizes) / truth - 1)) < 0.01


def test_samples_are_respected_where_no_formula_holds():
    sizes = np.arange(8.0, 65, 8)[:, None]
    odd = np.array([1.0, 1.6, 1.1, 1.7, 1.2, 1.8, 1.1, 1.9])
    many = np.repeat(sizes, 6, axis=0)
    curve = fit_curve(many, np.repeat(odd, 6), floor_ms=1e-4)
    assert np.abs(curve.predict(sizes) / odd - 1).max() < 0.05


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_few_samples_give_few_features(count):
    sizes = grid()[np.linspace(0, 255, count).astype(int)]
    curve = fit_curve(sizes, tiled(sizes, 16), floor_ms=1e-4)
    assert curve.basis == PLAIN
    assert curve.predict(sizes) == pytest.approx(tiled(sizes, 16), rel=0.25)


def test_a_layer_that_costs_nothing_is_predicted_at_nothing():
    sizes = grid()[:20]
    assert fit_curve(sizes, np.zeros(20), floor_ms=1e-3).predict(sizes) == pytest.approx(0)


def test_features_are_non_negative_and_named_by_their_count():
    sizes = grid()
    assert Basis((8, 32)).features(sizes).shape == (len(sizes), 1 + 2 * 3)
    assert Basis((8,), 16).features(sizes).shape == (len(sizes), 1 + 3 + 4)
    assert Basis((8,), 16).features(sizes).min() >= 0
    four = np.full((2, 4), 8.0)
    assert Basis((8,)).features(four).shape == (2, 16)
