"""The moving average against its formula."""

from __future__ import annotations

import pytest
import torch

from pruner.tuning.ema import build_average, use_average


def test_the_moving_average_is_that_of_its_formula():
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(module.weight, 1.0)
    average, expected = build_average(module, 0.5), 1.0
    for step, value in enumerate([3.0, -2.0, 5.0, 7.0, 1.0, 0.0, 2.0, 8.0, 9.0]):
        torch.nn.init.constant_(module.weight, value)
        average.update_parameters(module)
        keep = min(0.5, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * value
    assert average.module.weight.item() == pytest.approx(expected)
    with use_average(module, average):
        assert module.weight.item() == pytest.approx(expected)
    assert module.weight.item() == 9.0


def test_infinities_and_counters_are_copied():
    """An attention mask holds -inf, of which no mean is to be taken."""
    module = torch.nn.BatchNorm1d(2)
    module.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    average = build_average(module, 0.5)
    module.num_batches_tracked += 3
    average.update_parameters(module)
    assert torch.equal(average.module.mask, module.mask)
    assert average.module.num_batches_tracked == 3
