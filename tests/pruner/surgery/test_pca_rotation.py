"""Turned streams: the same function, main directions first, and nothing turned that must not be."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from pruner.structure.plan import Plan
from pruner.structure.trace import trace
from pruner.surgery.apply import apply
from pruner.surgery.pca_rotation import find_streams, rotate
from pruner.tuning.bn_recalibration import recalibrate

from ..networks import Residual


class Bottleneck(nn.Module):
    """Linear bottlenecks as in MobileNetV2: the stream of six is added up without activation."""

    def __init__(self, stream: int = 6) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, stream, 3, padding=1, bias=False)
        self.stem_bn = nn.BatchNorm2d(stream)
        self.expand = nn.Conv2d(stream, 12, 1, bias=False)
        self.expand_bn = nn.BatchNorm2d(12)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False)
        self.depthwise_bn = nn.BatchNorm2d(12)
        self.project = nn.Conv2d(12, stream, 1)
        self.project_bn = nn.BatchNorm2d(stream)
        self.last = nn.Conv2d(stream, 10, 3, padding=1)
        self.head = nn.Linear(10, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem_bn(self.stem(x))
        y = torch.relu(self.expand_bn(self.expand(x)))
        y = torch.relu(self.depthwise_bn(self.depthwise(y)))
        x = x + self.project_bn(self.project(y))
        return self.head(torch.relu(self.last(x)).mean((2, 3)))


def bottleneck():
    """Traced, with statistics of the images that come along: 4 batches of 10."""
    torch.manual_seed(0)
    batches = [(torch.randn(10, 3, 8, 8), torch.randint(0, 5, (10,))) for _ in range(4)]
    module = Bottleneck().eval()
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.normal_(norm.weight, 1.0, 0.3)
        nn.init.normal_(norm.bias, 0.0, 0.3)
    recalibrate(module, batches)
    return trace(module, (torch.zeros(1, 3, 8, 8),), step=1), batches


def test_the_function_stays_and_the_given_network_too():
    net, batches = bottleneck()
    before = copy.deepcopy(net.module.state_dict())
    turned = rotate(net, batches)
    x = batches[0][0]
    with torch.no_grad():
        assert torch.allclose(turned.module(x), net.module(x), atol=1e-5)
        assert not torch.allclose(turned.module.expand.weight, net.module.expand.weight)
    assert all(torch.equal(v, before[k]) for k, v in net.module.state_dict().items())
    # Statistics are those of the turned channels: estimated anew on the same images they stay.
    kept = copy.deepcopy(turned.module.state_dict())
    recalibrate(turned.module, batches)
    for name in ("stem_bn", "project_bn"):
        for kind in ("running_mean", "running_var"):
            key = f"{name}.{kind}"
            assert torch.allclose(turned.module.state_dict()[key], kept[key], rtol=0.02, atol=1e-3)


def test_the_given_network_keeps_its_mode():
    net, batches = bottleneck()
    net.module.train()
    rotate(net, batches)
    assert all(part.training for part in net.module.modules())


def test_the_last_directions_carry_less_than_any_channel_did():
    net, batches = bottleneck()
    turned = rotate(net, batches)
    (name,) = find_streams(net)
    assert net.dims[name].size == 6

    def error(network, kept) -> float:
        everything = {n: tuple(range(d.size)) for n, d in network.dims.items()}
        small = apply(network, Plan({**everything, name: kept}, {}))
        with torch.no_grad():
            return sum(float((small(x) - net.module(x)).square().mean()) for x, _ in batches)

    kept = tuple(range(5))
    channels = [tuple(i for i in range(6) if i != gone) for gone in range(6)]
    assert error(turned, kept) < min(error(net, k) for k in channels)
    # Nobody reads more than this network's layers can tell apart: directions are sorted by it.
    errors = [error(turned, tuple(range(n))) for n in range(1, 7)]
    assert errors[-1] < 1e-8 and errors[0] > errors[2] > errors[4]


def test_a_stream_behind_an_activation_is_left_alone():
    torch.manual_seed(0)
    net = trace(Residual(), (torch.zeros(1, 3, 8, 8),))
    assert find_streams(net) == {}
    assert rotate(net, [(torch.randn(2, 3, 8, 8), None)]) is net


@pytest.mark.parametrize("name", ["shared", "read"])
def test_whatever_else_touches_a_stream_keeps_it_as_it_is(name):
    class Other(Bottleneck):
        def forward(self, x):
            x = self.stem_bn(self.stem(x))
            y = self.depthwise(self.expand(x))
            if name == "shared":
                x = x + self.project(y) + self.project(y * 2)
            else:
                x = self.project(y) + x * x.mean((2, 3), keepdim=True)
            return self.head(torch.relu(self.last(x)).mean((2, 3)))

    net = trace(Other(), (torch.zeros(1, 3, 8, 8),), step=1)
    assert not any(net.dims[dim].size == 6 for dim in find_streams(net))
