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


class _Folded(nn.Module):
    """Attention by hand whose heads are folded with the batch by sizes that it computes."""

    def __init__(self, fold: Callable[..., Any]) -> None:
        super().__init__()
        self.a, self.qkv, self.c = nn.Linear(8, 32), nn.Linear(32, 96), nn.Linear(32, 3)
        self.fold = fold

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(self.a(x)).view(b, n, 3, 4, 8).permute(2, 0, 3, 1, 4).unbind(0)
        q, k, v = (self.fold(t, b, n) for t in (q, k, v))
        y = torch.bmm(torch.bmm(q, k.transpose(1, 2)).softmax(-1), v)
        result: Tensor = self.c(y.view(b, 4, -1, 8).transpose(1, 2).reshape(b, n, -1))
        return result


FOLDS = {
    "product": lambda t, b, n: t.reshape(b * 4, -1, 8),
    "turned": lambda t, b, n: t.reshape(4 * b, n, -1),
    "three": lambda t, b, n: t.reshape(b * 2 * 2, -1, 8),
    "both": lambda t, b, n: t.reshape(b * 4 * n, -1).unflatten(0, (b * 4, -1)),
}


@pytest.mark.parametrize("name", FOLDS)
def test_heads_are_folded_with_the_batch_by_computed_sizes(name: str) -> None:
    torch.manual_seed(0)
    model = _Folded(FOLDS[name]).eval()
    net = trace(model, (torch.randn(2, 5, 8),))
    assert {"heads", "v", "a"} <= set(net.dims), net.frozen
    plan = Plan.random(net, 0.5, seed=1)
    assert verify(model, net, plan) < 1e-5
    assert verify(model, net, plan, inputs=[torch.randn(3, 5, 8)]) < 1e-5
