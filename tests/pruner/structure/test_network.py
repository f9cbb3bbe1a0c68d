"""Nothing changes a Network: neither what is read from it nor what is cut from it."""

from __future__ import annotations

import pytest
import torch

from pruner import Plan, apply, trace, verify
from pruner.structure import count_macs, count_parameters
from pruner.surgery import compact_network

from ..networks import Attention, Dense, Residual, shake
from ..signatures import describe_axes, describe_network, describe_program

IMAGE = (torch.zeros(2, 3, 8, 8),)


def describe_all(net):
    return describe_network(net), describe_axes(net.axis_map), describe_program(net.program)


@pytest.mark.parametrize("network", [Attention, Dense, Residual])
def test_a_network_is_as_it_was_whatever_is_done_with_it(network):
    model = shake(network())
    net = trace(model, IMAGE)
    before = describe_all(net)
    plan = Plan.random(net, 0.5, drop_blocks=0.3)
    first = verify(model, net, plan)
    assert verify(model, net, plan) == first
    assert describe_all(net) == before
    assert apply(net, plan).code == apply(net, plan).code
    assert Plan.random(net, 0.5, drop_blocks=0.3) == plan
    counts = count_macs(net, plan.sizes()), count_parameters(net, plan.sizes())
    assert counts == (count_macs(net, plan.sizes()), count_parameters(net, plan.sizes()))
    assert net.probe(plan.sizes()).sizes == net.probe(plan.sizes()).sizes
    compact_network(net, plan)
    assert describe_all(net) == before


@pytest.mark.parametrize("network", [Attention, Dense, Residual])
def test_traced_twice_it_is_the_same(network):
    model = network()
    first, second = trace(model, IMAGE), trace(model, IMAGE)
    assert describe_network(first) == describe_network(second)
    assert describe_axes(first.axis_map) == describe_axes(second.axis_map)
    plan = Plan.random(first, 0.5)
    assert Plan.random(second, 0.5) == plan
    assert apply(first, plan).code == apply(second, plan).code


def test_reading_is_the_former_name_of_axis_map():
    net = trace(Residual(), IMAGE)
    assert net.reading is net.axis_map
