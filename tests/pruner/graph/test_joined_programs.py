"""Parts of a joined graph are called as their modules are, and with nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pruner.errors import PrunerError
from pruner.graph import GraphPart
from pruner.structure import trace_parts


class Scaled(nn.Module):
    """Scales, and shifts where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor, *, scale: Tensor, shift: Tensor | None = None) -> Tensor:
        y: Tensor = self.b(self.a(x).relu()) * scale
        return y if shift is None else y + shift


def test_a_part_takes_its_arguments_in_any_order_and_no_others() -> None:
    torch.manual_seed(0)
    x, scale, shift = torch.randn(2, 3), torch.rand(2, 1), torch.rand(2, 1)
    plain, shifted = Scaled().eval(), Scaled().eval()
    net = trace_parts(
        {
            "plain": (plain, (x,), {"scale": scale}),
            "shifted": (shifted, (x,), {"scale": scale, "shift": shift}),
        }
    )
    first, second = GraphPart(net.module, 0), GraphPart(net.module, 1)
    torch.testing.assert_close(first(x, scale=scale), plain(x, scale=scale))
    expected = shifted(x, scale=scale, shift=shift)
    torch.testing.assert_close(second(x, shift=shift, scale=scale), expected)
    with pytest.raises(PrunerError, match="traced with 2 values and is called with 3"):
        first(x, scale=scale, shift=shift)
    with pytest.raises(PrunerError, match="traced with 3 values and is called with 2"):
        second(x, scale=scale)
