"""The schedule of the learning rate."""

from __future__ import annotations

import pytest

from pruner.tuning.recipe import Recipe


def test_the_rate_warms_up_and_falls_as_a_half_cosine():
    recipe = Recipe(lr=0.8, warmup=1.0)
    rates = [recipe.lr_at(step, 40, 10) for step in range(40)]
    assert rates[:10] == pytest.approx([0.8 * (k + 1) / 11 for k in range(10)])
    assert rates[10] == 0.8 and max(rates) == 0.8
    assert rates[25] == pytest.approx(0.4)
    assert rates[10:] == sorted(rates[10:], reverse=True) and 0 < rates[-1] < 0.01
    assert Recipe(lr=1.0, warmup=9).lr_at(0, 1, 1) == 1.0  # a run shorter than its warm-up
