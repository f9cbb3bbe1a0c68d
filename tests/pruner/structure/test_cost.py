"""Multiply-adds and cells do not depend on which operator a product is written as."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pruner import trace
from pruner.structure import count_macs

TOKENS, WIDTH = 5, 12


class Written(nn.Module):
    """Two linear layers, the first of them written by hand."""

    def __init__(self, product: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.product = product
        self.weight, self.bias = nn.Parameter(torch.randn(6, WIDTH)), nn.Parameter(torch.randn(12))
        self.out = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.out(self.product(self, x).relu())
        return result


PRODUCTS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "linear": lambda net, x: nn.functional.linear(x, net.weight.t(), net.bias),
    "matmul": lambda net, x: x @ net.weight + net.bias,
    "addmm": lambda net, x: torch.addmm(net.bias, x.flatten(0, 1), net.weight).view(-1, TOKENS, 12),
    "baddbmm": lambda net, x: torch.baddbmm(
        net.bias.view(1, 1, -1), x, net.weight.expand(len(x), 6, -1)),
    "einsum": lambda net, x: torch.einsum("b t i, i o -> b t o", x, net.weight) + net.bias,
    "einsum of all axes in front": lambda net, x: torch.einsum("...i,io", x, net.weight),
}  # fmt: skip


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_counts_and_has_a_cell_however_it_is_written(name: str) -> None:
    net = trace(Written(PRODUCTS[name]).eval(), (torch.randn(2, TOKENS, 6),), step=1)
    (dim,) = net.dims.values()
    assert count_macs(net) == TOKENS * WIDTH * (6 + 3)
    assert count_macs(net, {dim.name: 4}) == TOKENS * 4 * (6 + 3)
    cells = [cell for cell in net.cells() if dim.name in cell.dims]
    assert len(cells) >= 2, [cell.spec for cell in net.cells()]


class Recurrent(nn.Module):
    """A recurrent layer between two linear ones."""

    def __init__(self, layer: nn.Module, reads: int) -> None:
        super().__init__()
        self.a, self.layer, self.b = nn.Linear(6, 8), layer, nn.Linear(reads, 3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.b(self.layer(self.a(x))[0])
        return result


@pytest.mark.parametrize(
    "layer",
    [
        nn.RNN(8, 12, batch_first=True),
        nn.GRU(8, 12, 2, batch_first=True),
        nn.LSTM(8, 12, bidirectional=True, batch_first=True, proj_size=5),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_recurrent_layer_counts_its_weights_at_every_step(layer: nn.RNNBase) -> None:
    reads = (layer.proj_size or 12) * (1 + layer.bidirectional)
    net = trace(Recurrent(layer, reads).eval(), (torch.randn(2, TOKENS, 6),), step=1)
    weights = sum(p.numel() for p in layer.parameters() if p.dim() == 2)
    assert count_macs(net) == TOKENS * (6 * 8 + weights + reads * 3)
    assert set(net.dims) == {dim for cell in net.cells() for dim in cell.dims}
