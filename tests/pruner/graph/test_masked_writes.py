"""Writes to the ones of a mask are selections: cut exactly, without sizes that depend on data."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from pruner import Plan, trace, verify
from pruner.graph import to_onnx


def _write_where(x: Tensor, mask: Tensor) -> None:
    x[torch.where(mask.sum(-1) > 0)] = -0.5


def _write_mask(x: Tensor, mask: Tensor) -> None:
    x[mask] = 0.25


def _write_row(x: Tensor, mask: Tensor) -> None:
    x[mask.any(-1)] = torch.linspace(0.0, 1.0, x.shape[-1])


def _write_nonzero(x: Tensor, mask: Tensor) -> None:
    batch, token = mask.any(-1).nonzero(as_tuple=True)
    x[batch, token] = 2.0


def _write_columns(x: Tensor, mask: Tensor) -> None:
    ones = mask.any(-1).nonzero()
    x[ones[:, 0], ones[:, 1]] = 3.0


def _write_behind(x: Tensor, mask: Tensor) -> None:
    x[:, mask[0].any(-1)] = 1.0


class Masked(nn.Module):
    """A bottleneck whose inner values are overwritten where a mask of their own says so."""

    def __init__(self, write: Callable[[Tensor, Tensor], None]) -> None:
        super().__init__()
        self.first, self.last, self.write = nn.Linear(8, 16), nn.Linear(16, 4), write
        self.gate = nn.Linear(8, 16)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x).relu()
        self.write(y, self.gate(x) > 0.7)
        return self.last(y)


WRITES = [_write_where, _write_mask, _write_row, _write_nonzero, _write_columns, _write_behind]


@pytest.mark.parametrize("write", WRITES)
def test_masked_writes_are_selections(write: Callable[[Tensor, Tensor], None]) -> None:
    torch.manual_seed(0)
    model = Masked(write).eval()
    x = torch.randn(3, 5, 8)
    net = trace(model, (x,))
    names = {str(node.target) for node in net.program.graph.nodes}
    assert not any("index_put" in name or "nonzero" in name for name in names)
    torch.testing.assert_close(net.module(x), model(x))
    for seed in range(2):
        plan = Plan.random(net, macs=0.6, seed=seed)
        assert verify(model, net, plan) < 1e-5
    if write is _write_where:
        to_onnx(net.module, (x,))


def test_other_writes_stay() -> None:
    def write(x: Tensor, mask: Tensor) -> None:
        rows, columns = torch.where(mask.any(-1))
        x[columns % 3, rows] = 1.0

    model = Masked(write).eval()
    x = torch.randn(3, 5, 8)
    net = trace(model, (x,))
    assert any("index_put" in str(node.target) for node in net.program.graph.nodes)
    torch.testing.assert_close(net.module(x), model(x))
