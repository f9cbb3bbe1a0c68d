"""Divergence of class scores, and the images that it is measured on."""

from __future__ import annotations

import pytest
import torch

from pruner.importance.divergence import MEASURED_ON, mean_divergence, run_batches, split_holdout


def test_maps_diverge_by_their_classes():
    torch.manual_seed(0)
    ours, theirs = torch.randn(2, 3, 7, 4, 5)
    rows = [maps.permute(0, 2, 3, 1).reshape(-1, 7) for maps in (ours, theirs)]
    found = mean_divergence([ours], [theirs])
    assert found == pytest.approx(mean_divergence([rows[0]], [rows[1]]))


def test_cuts_are_measured_on_a_quarter_of_the_images_until_there_are_enough():
    batches = [(torch.zeros(30, 1), k) for k in range(40)]
    fits, held_out = split_holdout(batches)
    assert [k for _, k in held_out] == [3, 7, 11, 15, 19] and 5 * 30 >= MEASURED_ON > 4 * 30
    assert sorted([k for _, k in fits] + [3, 7, 11, 15, 19]) == list(range(40))
    assert split_holdout(batches[:2]) == (batches[:2], batches[:2])


def test_running_batches_changes_neither_modes_nor_gradients_of_the_caller():
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Dropout())
    running = run_batches(module, [(torch.ones(1, 3), None)] * 2)
    first = next(running)
    assert torch.is_grad_enabled() and not first.requires_grad and not module.training
    assert torch.equal(next(running), first)  # no dropout
    running.close()
    assert module.training
