"""Weights that the network's inputs make: kernels a sample, run as groups of one convolution."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruner import Plan, trace, verify


class Modulated(nn.Module):
    """A kernel scaled by a style, one a sample; the last weight of the network that is such."""

    def __init__(self, transposed: bool) -> None:
        super().__init__()
        shape = (6, 8) if transposed else (8, 6)
        self.transposed = transposed
        self.a, self.style, self.b = nn.Conv2d(3, 6, 1), nn.Linear(4, 6), nn.Conv2d(8, 2, 1)
        self.weight = nn.Parameter(torch.randn(1, *shape, 3, 3))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        x, n = self.a(x), x.shape[0]
        place = (n, -1, 1, 1, 1) if self.transposed else (n, 1, -1, 1, 1)
        kernel = (self.weight * (self.style(z) + 1).reshape(place)).flatten(0, 1)
        convolve = F.conv_transpose2d if self.transposed else F.conv2d
        y = convolve(x.reshape(1, -1, *x.shape[2:]), kernel, padding=1, groups=n)
        result: Tensor = self.b(y.reshape(n, -1, *y.shape[2:]))
        return result


class Correlated(nn.Module):
    """One image's channels are the depthwise kernels of the other's."""

    def __init__(self, transposed: bool) -> None:
        super().__init__()
        self.a, self.k, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 2), nn.Conv2d(8, 2, 1)
        self.convolve = F.conv_transpose2d if transposed else F.conv2d

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        x, k = self.a(x), self.k(x[:, :, :3, :3])
        n, c = x.shape[:2]
        k = k * z.mean(1).view(-1, 1, 1, 1)
        y = self.convolve(
            x.reshape(1, n * c, *x.shape[2:]), k.reshape(n * c, 1, 2, 2), groups=n * c
        )
        result: Tensor = self.b(y.reshape(n, c, *y.shape[2:]))
        return result


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("kind", [Modulated, Correlated])
def test_kernels_of_every_sample_are_cut_exactly(kind: type[nn.Module], transposed: bool) -> None:
    torch.manual_seed(0)
    model = kind(transposed).double().eval()
    inputs = (torch.randn(2, 3, 5, 5).double(), torch.randn(2, 4).double())
    net = trace(model, inputs, step=1)
    assert net.fixed_batch is None
    assert {8} <= {dim.size for dim in net.dims.values()}, net.frozen
    more = [torch.cat([x, x, x])[:5] for x in inputs]
    for seed in range(2):
        plan = Plan.random(net, macs=0.6, seed=seed)
        assert verify(model, net, plan) < 1e-10
        assert verify(model, net, plan, inputs=more) < 1e-10


def test_a_modulated_kernel_writes_its_channels_and_reads_its_input() -> None:
    net = trace(Modulated(False).eval(), (torch.randn(2, 3, 5, 5), torch.randn(2, 4)), step=1)
    roles = {slot.axis: slot.role for dim in net.dims.values() for slot in dim.slots
             if slot.tensor == "weight"}  # fmt: skip
    assert roles == {1: "out", 2: "in"}
