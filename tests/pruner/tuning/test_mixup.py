"""Mixup: images and labels are mixed alike."""

from __future__ import annotations

import pytest
import torch

from pruner.tasks.mixup import draw_mixture
from pruner.tuning.loss import distillation_loss
from pruner.tuning.recipe import Recipe


def test_mixup_mixes_images_and_labels_alike():
    torch.manual_seed(2)
    images, labels = torch.randn(6, 3, 4, 4), torch.tensor([0, 1, 2, 2, 1, 0])
    mixture = draw_mixture(6, 0.4, torch.device("cpu"))
    share, partner = mixture.share, mixture.partner
    assert 0.5 <= share <= 1 and sorted(partner.tolist()) == list(range(6))
    outputs = torch.randn(6, 3)
    for k in range(6):
        expected = share * images[k] + (1 - share) * images[partner[k]]
        torch.testing.assert_close(mixture.mix_images(images)[k], expected)
    log = torch.log_softmax(outputs, 1)
    rows = torch.arange(6)
    plain = -(share * log[rows, labels] + (1 - share) * log[rows, labels[partner]]).mean()
    found = distillation_loss(outputs, None, mixture.mix_labels(labels, 3), Recipe())
    assert found.item() == pytest.approx(plain.item(), rel=1e-5)
