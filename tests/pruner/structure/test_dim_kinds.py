"""What every Dim is said to be, however the network writes its attention, and under which name."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pruner import trace

from ..networks import Plain, Residual

TOKENS = (torch.zeros(2, 5, 12),)


def kinds(net):
    return {name: (dim.kind, dim.size) for name, dim in net.dims.items()}


class Encoder(nn.Module):
    """One attention of three heads of width four, values of width two, and a gated MLP."""

    def __init__(self, attend) -> None:
        super().__init__()
        self.embed = nn.Linear(12, 10)
        self.attn = Attend(attend)
        self.norm = nn.LayerNorm(10)
        self.up = nn.Linear(10, 2 * 7)
        self.down = nn.Linear(7, 10)
        self.head = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x + self.attn(x)
        left, right = self.up(self.norm(x)).chunk(2, -1)
        x = x + self.down(functional.silu(left) * right)
        return self.head(x.mean(1))


class Attend(nn.Module):
    def __init__(self, attend) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(10, 12), nn.Linear(10, 12), nn.Linear(10, 6)
        self.project = nn.Linear(6, 10)
        self.attend = attend

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (3, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        return self.project(self.attend(q, k, v).transpose(1, 2).flatten(2))


def products(q, k, v):
    return (q * 0.5 @ k.transpose(-2, -1)).softmax(-1) @ v


def einsums(q, k, v):
    scores = torch.einsum("bhqc,bhkc->bhqk", q, k).softmax(-1)
    return torch.einsum("bhqk,bhkc->bhqc", scores, v)


def linear_attention(q, k, v):
    """Keys meet values first: what the second product sums over is still the width of queries."""
    return q.softmax(-2) @ (k.transpose(-2, -1) @ v)


ATTENTIONS = (functional.scaled_dot_product_attention, products, einsums, linear_attention)


@pytest.mark.parametrize("attend", ATTENTIONS)
def test_an_attention_however_it_is_written(attend):
    assert kinds(trace(Encoder(attend), TOKENS)) == {
        "embed": ("stream", 10),
        "attn.heads": ("heads", 3),
        "attn.qk": ("qk", 4),
        "attn.v": ("v", 2),
        "up": ("hidden", 7),
    }


def test_a_layer_of_torch():
    layer = nn.TransformerEncoderLayer(12, 3, 20, batch_first=True, norm_first=True)
    net = trace(nn.Sequential(nn.Linear(12, 12), layer, nn.Linear(12, 5)), TOKENS)
    assert kinds(net) == {
        "0": ("stream", 12),
        "1.self_attn.heads": ("heads", 3),
        "1.self_attn.qk": ("qk", 4),
        "1.self_attn.v": ("v", 4),
        "1.linear1": ("hidden", 20),
    }
    assert list(net.blocks) == ["1.self_attn", "1"]


def test_convolutions():
    assert kinds(trace(Residual(), (torch.zeros(2, 3, 8, 8),))) == {
        "stem": ("stream", 8), "a1": ("hidden", 6), "b1": ("hidden", 6), "b2": ("stream", 12),
    }  # fmt: skip
    assert {kind for kind, _ in kinds(trace(Plain(), (torch.zeros(2, 3, 8, 8),))).values()} == {
        "channels"
    }


def test_groups_are_told_from_the_widths_in_them():
    net = trace(
        nn.Sequential(
            nn.Conv2d(3, 8, 1),
            nn.Conv2d(8, 12, 3, groups=4),
            nn.Conv2d(12, 12, 3, groups=12),
            nn.Conv2d(12, 2, 1),
        ),
        (torch.zeros(2, 3, 8, 8),),
    )
    assert kinds(net) == {
        "1.groups": ("groups", 4), "0": ("channels", 2), "1": ("channels", 3),
    }  # fmt: skip


def test_a_similarity_is_no_attention():
    """Two towers whose results are compared (CLIP): one product of activations, not two."""

    class Towers(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(12, 6), nn.Linear(12, 6)

        def forward(self, x, y):
            return self.a(x) @ self.b(y).transpose(-2, -1)

    net = trace(Towers(), (*TOKENS, *TOKENS))
    assert kinds(net) == {"a": ("channels", 6)}


def test_names_are_the_same_every_time():
    first, again = (trace(Encoder(products), TOKENS) for _ in range(2))
    assert list(first.dims) == list(again.dims) and list(first.blocks) == list(again.blocks)
