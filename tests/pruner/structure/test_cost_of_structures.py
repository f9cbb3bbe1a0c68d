"""What structures cost, asked of a network that is read once, is what the cut networks have."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from pruner import Plan, apply, trace
from pruner.structure import Cost, Network, count_macs, count_parameters

from ..networks import Attention, Residual


@pytest.fixture(scope="module", params=[Residual, Attention])
def net(request: pytest.FixtureRequest) -> Network:
    return trace(request.param().eval(), (torch.randn(2, 3, 8, 8),))


def _draw(net: Network, seed: int) -> Plan:
    draw = random.Random(seed)
    some = [dim for dim in net.dims.values() if draw.random() < 0.6]
    keep = {dim.name: tuple(range(draw.choice(dim.options()))) for dim in some}
    return Plan(keep, {name: draw.random() < 0.6 for name in net.blocks})


def test_parameters_are_those_of_the_cut_network(net: Network) -> None:
    cost = Cost.of_parameters(net)
    assert cost.dense == cost.count() == sum(p.numel() for p in net.module.parameters())
    for seed in range(8):
        plan = _draw(net, seed)
        counted = cost.count(plan.sizes(), plan.dropped_blocks())
        small: nn.Module = apply(net, plan)
        assert counted == sum(p.numel() for p in small.parameters())
        assert counted == count_parameters(net, plan.sizes(), plan.dropped_blocks())


def test_multiply_adds_are_those_of_the_cut_network_traced_again(net: Network) -> None:
    cost = Cost.of_macs(net)
    plan = _draw(net, 1)
    again = trace(apply(net, plan), net.inputs)
    assert cost.count(plan.sizes(), plan.dropped_blocks()) == count_macs(again)
