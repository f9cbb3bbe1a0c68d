"""Evaluation and recalibration against direct computation."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pruner.errors import PrunerError
from pruner.tuning.bn_recalibration import recalibrate
from pruner.tuning.evaluate import evaluate

from ..small import hand_traced, random_batches


def test_accuracy_and_loss_are_means_over_images_whatever_the_batches():
    module, batches = hand_traced().module, [*random_batches(2, 5), *random_batches(1, 2)]
    inputs, labels = (torch.cat(part) for part in zip(*batches, strict=True))
    with torch.no_grad():
        outputs = module(inputs)
    told: list[tuple[int, int | None]] = []
    found = evaluate(module, batches, progress=lambda *at: told.append(at))
    assert found.images == 12
    assert found.accuracy == pytest.approx((outputs.argmax(1) == labels).double().mean().item())
    assert found.loss == pytest.approx(cross_entropy(outputs, labels).item(), rel=1e-5)
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_evaluation_leaves_modes_and_statistics():
    module = hand_traced().module.train()
    module.bn1.eval()
    before = copy.deepcopy(module.state_dict())
    evaluate(module, random_batches())
    assert module.training and module.stem_bn.training and not module.bn1.training
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_nothing_to_evaluate_is_told():
    with pytest.raises(PrunerError, match="no images"):
        evaluate(hand_traced().module, [])


def test_recalibrated_statistics_are_the_means_of_what_arrives():
    module, batches = hand_traced().module, random_batches(3, 6)
    before = copy.deepcopy(module.state_dict())
    assert recalibrate(module, batches) == 3
    arriving = [module.stem(x).transpose(0, 1).flatten(1) for x, _ in batches]
    mean = torch.stack([a.mean(1) for a in arriving]).mean(0)
    variance = torch.stack([a.var(1) for a in arriving]).mean(0)
    assert torch.allclose(module.stem_bn.running_mean, mean)
    assert torch.allclose(module.stem_bn.running_var, variance)
    changed = {k for k, v in module.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {
        f"{norm}.{kind}"
        for norm in ("stem_bn", "bn1")
        for kind in ("running_mean", "running_var", "num_batches_tracked")
    }


def test_recalibration_leaves_modes_momenta_and_dropout():
    module = nn.Sequential(nn.BatchNorm1d(3, momentum=0.3), nn.Dropout(0.5), nn.BatchNorm1d(3))
    module.train()
    module[2].eval()
    values = torch.randn(50, 3)
    recalibrate(module, [(values, None)])
    assert module[0].momentum == 0.3 and module[0].training and not module[2].training
    # Without dropout's noise the second norm sees unit variance.
    assert torch.allclose(module[2].running_var, torch.tensor(1.0), atol=0.05)


def test_without_batches_the_statistics_stay():
    module = hand_traced().module
    before = copy.deepcopy(module.state_dict())
    assert recalibrate(module, []) == 0
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert recalibrate(nn.Linear(2, 2), random_batches()) == 0
