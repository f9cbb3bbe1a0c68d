"""Projections of several tensors at once, however they are taken apart: QK and V are Dims apart."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from pruner import Plan, trace, verify

HEADS, WIDTH = 4, 8


def _fold_heads(fused: Tensor) -> tuple[Tensor, ...]:
    """Batch and heads in one axis, the map flattened by the reshape that takes heads apart."""
    b, h, w, _ = fused.shape
    fused = fused.reshape(b, h * w, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
    return tuple(fused.reshape(3, b * HEADS, h * w, -1).unbind(0))


def _fold_heads_last(fused: Tensor) -> tuple[Tensor, ...]:
    """As einops does: the three in front, then heads and batch in one axis."""
    b, h, w, _ = fused.shape
    fused = fused.flatten(1, 2).unflatten(-1, (3, HEADS, WIDTH))
    fused = fused.permute(2, 3, 0, 1, 4).reshape(3, HEADS * b, h * w, WIDTH)
    return fused[0], fused[1], fused[2]


def _flatten_map(fused: Tensor) -> tuple[Tensor, ...]:
    """The map flattened behind the parts."""
    b, h, w, _ = fused.shape
    fused = fused.reshape(b, h, w, 3, HEADS, WIDTH).permute(3, 0, 4, 1, 2, 5)
    return tuple(fused.flatten(3, 4).flatten(1, 2).unbind())


SPLITS = {"folded": _fold_heads, "heads first": _fold_heads_last, "flattened": _flatten_map}


class _Attention(nn.Module):
    def __init__(self, split: Callable[[Tensor], tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 16)
        self.qkv = nn.Linear(16, 3 * HEADS * WIDTH)
        self.proj, self.head = nn.Linear(HEADS * WIDTH, 16), nn.Linear(16, 5)
        self.split = split

    def forward(self, x: Tensor) -> Tensor:
        b, h, w, _ = x.shape
        q, k, v = self.split(self.qkv(self.stem(x)))
        y = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        if self.split is _fold_heads_last:
            y = y.reshape(HEADS, b, h * w, -1).permute(1, 2, 0, 3)
        else:
            y = y.reshape(b, HEADS, h * w, -1).transpose(1, 2)
        result: Tensor = self.head(self.proj(y.reshape(b, h, w, -1)).relu())
        return result


@pytest.mark.parametrize("split", SPLITS)
def test_parts_after_another_reshape(split: str) -> None:
    torch.manual_seed(0)
    model = _Attention(SPLITS[split]).eval()
    net = trace(model, (torch.randn(2, 3, 4, 3),))
    kinds = {dim.kind: dim.size for dim in net.dims.values() if dim.kind != "channels"}
    assert kinds == {"heads": HEADS, "qk": WIDTH, "v": WIDTH}
    assert not net.axis_map.unsupported
    for seed in range(2):
        assert verify(model, net, Plan.random(net, 0.5, seed=seed)) < 1e-5


class _Relative(nn.Module):
    """Scores by distance, gathered or shifted, of heads that are folded with the batch or not."""

    def __init__(self, shift: bool) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 16)
        self.q, self.k, self.v = (nn.Linear(16, HEADS * WIDTH) for _ in range(3))
        self.r = nn.Linear(16, HEADS * WIDTH)
        self.proj, self.head = nn.Linear(HEADS * WIDTH, 16), nn.Linear(16, 5)
        self.shift = shift

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        b, n, _ = x.shape
        q, k, v = (
            layer(x).view(b, n, HEADS, -1).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        places = torch.arange(2 * n, device=x.device)
        waves = torch.outer(places.float() / n, torch.arange(1.0, 17.0, device=x.device)).sin()
        r = self.r(waves).view(2 * n, HEADS, -1).transpose(0, 1)
        if self.shift:
            far = q @ r.transpose(-1, -2)
            far = far.reshape(b, HEADS, 2 * n, n)[:, :, 1:].reshape(b, HEADS, n, 2 * n - 1)
            far = far[..., :n]
        else:
            q, k, v = (z.reshape(-1, n, z.size(-1)) for z in (q, k, v))
            far = q @ r.repeat(b, 1, 1).transpose(-1, -2)
            index = (places[:n, None] - places[None, :n]).clamp(-n, n - 1) + n
            far = far.gather(-1, index.expand(q.size(0), n, n))
        y = (q @ k.transpose(-1, -2) + far).softmax(-1) @ v
        y = y.reshape(b, HEADS, n, -1).transpose(1, 2).reshape(b, n, -1)
        result: Tensor = self.head(self.proj(y).relu())
        return result


@pytest.mark.parametrize("shift", [True, False])
def test_heads_of_relative_scores(shift: bool) -> None:
    torch.manual_seed(0)
    model = _Relative(shift).eval()
    net = trace(model, (torch.randn(2, 6, 3),))
    assert HEADS in [dim.size for dim in net.dims.values() if dim.kind == "heads"]
    assert verify(model, net, Plan.random(net, 0.5, seed=0)) < 1e-5
