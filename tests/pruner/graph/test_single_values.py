"""Batch norms that see one value a channel use their running statistics; all others train."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from pruner.errors import PrunerWarning
from pruner.graph import allow_single_values
from pruner.tuning.bn_recalibration import recalibrate


def make() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4),
        nn.Flatten(), nn.Linear(4, 4), nn.BatchNorm1d(4),
    )  # fmt: skip
    with torch.no_grad():
        for norm in (net[1], net[3], net[6]):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    return net.train()


def test_one_value_a_channel_is_normalized_by_what_was_known() -> None:
    net, image = make(), torch.randn(1, 3, 4, 4)
    with pytest.raises(ValueError, match="more than 1 value"):
        net(image)
    net = make()
    before = [norm.running_mean.clone() for norm in (net[1], net[3], net[6])]
    with allow_single_values(net), pytest.warns(PrunerWarning, match="one value a channel"):
        net(image).sum().backward()
    moved = [not torch.equal(a, n.running_mean) for a, n in zip(before, (net[1], net[3], net[6]))]
    assert moved == [True, False, False]  # the first one sees 16 values
    assert all(module.training for module in net.modules())
    assert all(p.grad is not None for p in net.parameters())


def test_larger_batches_are_left_alone_and_no_hook_stays() -> None:
    images = torch.randn(4, 3, 4, 4)
    one, other = make(), make()
    with allow_single_values(one), warnings.catch_warnings():
        warnings.simplefilter("error")
        found = one(images)
    assert torch.equal(found, other(images))
    assert not one[1]._forward_pre_hooks and not one[1]._forward_hooks


def test_it_is_put_back_where_the_call_fails() -> None:
    net = make()
    with pytest.raises(RuntimeError), allow_single_values(net):
        net[3](torch.randn(1, 5, 1, 1))
    assert net[3].training


@pytest.mark.filterwarnings("ignore:a batch norm")
def test_recalibration_on_single_images_keeps_what_it_cannot_estimate() -> None:
    net = make().eval()
    before = net[3].running_var.clone(), net[1].running_var.clone()
    recalibrate(net, [((torch.randn(1, 3, 4, 4),), None) for _ in range(3)])
    assert torch.equal(net[3].running_var, before[0])
    assert not torch.equal(net[1].running_var, before[1])
