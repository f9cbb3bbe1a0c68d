"""Fits from running sums against numpy's least squares on the rows themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pruner.reconstruction.ridge import Moments, fit_ridge


def _rows(groups=3, rows=60, inputs=4, outputs=2, noise=0.1):
    dice = torch.Generator().manual_seed(0)
    x = torch.randn(groups, rows, inputs, generator=dice, dtype=torch.float64) + 1.0
    w = torch.randn(groups, inputs, outputs, generator=dice, dtype=torch.float64)
    error = torch.randn(groups, rows, outputs, generator=dice, dtype=torch.float64)
    return x, x @ w + 3.0 + noise * error, w


def _moments(x, y):
    found = Moments(x.shape[0], x.shape[2], y.shape[2])
    for part in range(0, x.shape[1], 7):
        found.add(x[:, part : part + 7], y[:, part : part + 7])
    return found


@pytest.mark.parametrize("biased", [True, False])
def test_a_fit_to_exact_rows_is_ordinary_least_squares(biased):
    x, y, w = _rows(noise=0.0)
    if not biased:
        y = y - 3.0
    old = torch.zeros_like(w)
    found = fit_ridge(
        _moments(x[:, :40], y[:, :40]), _moments(x[:, 40:], y[:, 40:]), old, biased=biased
    )
    for g in range(3):
        design = np.concatenate([x[g], np.ones((60, 1))], 1) if biased else x[g].numpy()
        expected = np.linalg.lstsq(design, y[g].numpy(), rcond=None)[0]
        assert np.allclose(found.weight[g], expected[:4], atol=1e-4)
    fitted = x @ found.weight + found.bias[:, None]
    assert torch.allclose(fitted.mean(1), found.mean)
    if biased:
        assert torch.allclose(fitted.var(1, unbiased=False), found.variance)


def test_the_ridge_is_a_penalty_on_the_distance_from_the_old_weights():
    """Rows of the penalty appended to the design, in numpy."""
    x, y, w = _rows(groups=1)
    old = w + 0.3
    nothing = Moments(1, 4, 2)
    found = fit_ridge(_moments(x, y), nothing, old)
    assert found.ridge == 1e-3
    centred = (x[0] - x[0].mean(0)).numpy()
    strength = np.sqrt(1e-3 * (centred**2).mean() * len(centred))
    design = np.concatenate([centred, strength * np.eye(4)])
    goal = np.concatenate([(y[0] - y[0].mean(0)).numpy(), strength * old[0].numpy()])
    assert np.allclose(found.weight[0], np.linalg.lstsq(design, goal, rcond=None)[0])


def test_held_out_rows_keep_the_old_weights_where_a_fit_would_be_by_heart():
    dice = torch.Generator().manual_seed(1)
    x = torch.randn(1, 40, 30, generator=dice, dtype=torch.float64)
    old = torch.randn(1, 30, 1, generator=dice, dtype=torch.float64)
    y = x @ old + 5 * torch.randn(1, 40, 1, generator=dice, dtype=torch.float64)
    found = fit_ridge(_moments(x[:, :32], y[:, :32]), _moments(x[:, 32:], y[:, 32:]), old)
    assert found.ridge >= 1.0
