"""Distillation against its formula."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pruner.tuning.loss import distillation_loss
from pruner.tuning.recipe import Recipe


def test_the_loss_is_that_of_hinton():
    torch.manual_seed(1)
    outputs, taught = torch.randn(5, 4, requires_grad=True), torch.randn(5, 4)
    labels, recipe = torch.tensor([0, 3, 1, 1, 2]), Recipe(distill=0.3, temperature=2.0)
    p, q = torch.softmax(taught / 2, 1), torch.softmax(outputs / 2, 1)
    kl = (p * (p / q).log()).sum(1).mean()
    ce = -torch.softmax(outputs, 1)[torch.arange(5), labels].log().mean()
    found = distillation_loss(outputs, taught, labels, recipe)
    assert found.item() == pytest.approx((0.7 * ce + 0.3 * 4 * kl).item(), rel=1e-5)
    assert distillation_loss(outputs, None, labels, recipe).item() == pytest.approx(
        ce.item(), rel=1e-5
    )
    alone = distillation_loss(taught.clone(), taught, labels, replace(recipe, distill=1.0))
    assert alone.item() == pytest.approx(0.0, abs=1e-6)
