"""Attention however it is spelt: its heads, QK and V are Dims, and cuts of them are exact."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pruner import Plan, trace, verify


class _Attended(nn.Module):
    """An attention between two linear layers: on other queries and keys than values."""

    def __init__(self, call: Callable[..., Any], **settings: Any) -> None:
        super().__init__()
        self.a, self.c = nn.Linear(8, 32), nn.Linear(32, 3)
        self.m = nn.MultiheadAttention(32, 4, **settings)
        self.pos = nn.Parameter(torch.randn(1, 5, 32))
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        result: Tensor = self.c(self.call(self.m, x, self.pos))
        return result


def _call_with_positions(m: nn.Module, x: Tensor, pos: Tensor) -> Any:
    return m(x + pos, x + pos, x, need_weights=False)[0]


def _call_for_weights(m: nn.Module, x: Tensor, pos: Tensor) -> Any:
    y, weights = m(x + pos, x, x, average_attn_weights=False)
    return y + weights.mean((1, 2, 3))[:, None, None]


def _call_masked(m: nn.Module, x: Tensor, pos: Tensor) -> Any:
    mask = torch.ones(5, 5, dtype=torch.bool, device=x.device).triu(1)
    return m(x + pos, x, x, attn_mask=mask)[0]


CALLS = {
    "positions": (_call_with_positions, {"batch_first": True}),
    "weights": (_call_for_weights, {"batch_first": True}),
    "masked": (_call_masked, {"batch_first": True, "bias": False}),
}


@pytest.mark.parametrize("name", CALLS)
def test_multihead_attention_of_other_keys(name: str) -> None:
    torch.manual_seed(0)
    call, settings = CALLS[name]
    model = _Attended(call, **settings).eval()
    net = trace(model, (torch.randn(2, 5, 8),))
    assert {"m.heads", "m.qk", "m.v", "a"} <= set(net.dims)
    assert not net.axis_map.unsupported
    assert verify(model, net, Plan.random(net, 0.5, seed=1)) < 1e-5
