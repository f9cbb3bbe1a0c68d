"""One small network an operator family: what is free, and cut = masked dense in float64.

Every network has exactly the Dims named beside it; a rule that froze an axis, or joined two, would
change their sizes, and one that misread a position would change the numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruner import Plan, trace, verify
from pruner.errors import PrunerWarning
from pruner.structure import count_macs

from ..networks import shake


class Net(nn.Module):
    """A convolution or a linear layer, an operator between, and what reads it."""

    def __init__(self, between: Callable[..., Tensor], layers: dict[str, nn.Module]) -> None:
        super().__init__()
        self.between = between
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.between(self, x)


def conv(a: int, b: int, **settings: int) -> nn.Conv2d:
    return nn.Conv2d(a, b, 1, **settings)


IMAGE, TOKENS = (2, 3, 8, 8), (2, 10, 6)


def hand_written_norm(net: Net, x: Tensor) -> Tensor:
    x = net.a(x)
    x = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, unbiased=False) + 1e-3).sqrt()
    return net.b(x)


def spatial_gate(net: Net, x: Tensor) -> Tensor:
    x = torch.sigmoid(net.a(x))
    seen = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
    return net.b(x * torch.sigmoid(net.gate(seen)))


def normalized(net: Net, x: Tensor) -> Tensor:
    return net.b(F.normalize(torch.exp(net.a(x)), dim=-1))


def mixed_tokens(net: Net, x: Tensor) -> Tensor:
    x = net.a(x)
    return net.b(x + net.down(net.up(x).relu()))


def merged_tokens(net: Net, x: Tensor) -> Tensor:
    return net.b(net.merge(net.a(x).relu()[:, :, None])[:, 0, 0])


def channel_attention(net: Net, x: Tensor) -> Tensor:
    q, k, v = (layer(x).transpose(1, 2) for layer in (net.q, net.k, net.v))
    attention = (q @ k.transpose(1, 2)).softmax(-1)
    return net.out((attention @ v).transpose(1, 2))


def linear_attention(net: Net, x: Tensor) -> Tensor:
    q, k, v = F.elu(net.q(x)) + 1, F.elu(net.k(x)) + 1, net.v(x)
    return net.out(q @ (k.transpose(1, 2) @ v) / (q * k.sum(1, keepdim=True)).sum(-1, keepdim=True))


def grouped_queries(net: Net, x: Tensor) -> Tensor:
    q = net.q(x).unflatten(-1, (4, 6)).transpose(1, 2)
    k = net.k(x).unflatten(-1, (2, 6)).transpose(1, 2)
    v = net.v(x).unflatten(-1, (2, 5)).transpose(1, 2)
    y = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    return net.out(y.transpose(1, 2).flatten(2))


def repeated_keys(net: Net, x: Tensor) -> Tensor:
    q = net.q(x).unflatten(-1, (4, 6)).transpose(1, 2)
    k = net.k(x).unflatten(-1, (2, 6)).transpose(1, 2).repeat_interleave(2, 1)
    v = net.v(x).unflatten(-1, (2, 5)).transpose(1, 2).repeat_interleave(2, dim=1)
    y = (q @ k.transpose(2, 3)).softmax(-1) @ v
    return net.out(y.transpose(1, 2).flatten(2))


def einsum_attention(net: Net, x: Tensor) -> Tensor:
    q, k, v = (layer(x).reshape(*x.shape[:2], 4, -1) for layer in (net.q, net.k, net.v))
    weights = torch.einsum("...qhd,...khd->...hqk", q, k).softmax(-1)
    return net.out(torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2))


def patches(net: Net, x: Tensor) -> Tensor:
    y = F.unfold(net.a(x), 2, stride=2)
    return net.b(F.fold(y * net.scale(y), (8, 8), 2, stride=2))


def shuffles(net: Net, x: Tensor) -> Tensor:
    y = F.pixel_shuffle(net.a(x), 2)
    y = F.channel_shuffle(y, 2)
    return net.b(F.glu(F.pixel_unshuffle(y, 2), 1))


def sampled(net: Net, x: Tensor) -> Tensor:
    grid = torch.tanh(net.where(x)).permute(0, 2, 3, 1)
    return net.b(F.grid_sample(net.a(x), grid, align_corners=False))


def gathered(net: Net, x: Tensor) -> Tensor:
    y = net.a(x)
    best = net.score(x).squeeze(-1).topk(4, 1).indices
    return net.b(y.gather(1, best.unsqueeze(-1).expand(-1, -1, y.shape[-1])))


def upsampled(net: Net, x: Tensor) -> Tensor:
    return net.b(F.relu(net.grouped(F.relu(net.depthwise(net.a(x))))))


def added_product(net: Net, x: Tensor) -> Tensor:
    y = torch.addmm(net.a.bias, x.flatten(0, 1), net.a.weight.t())
    return net.b(F.gelu(y)).unflatten(0, x.shape[:2])


def tiled(net: Net, x: Tensor) -> Tensor:
    return net.b(torch.relu(net.a(x)).repeat(1, 1, 3))


def split_heads(net: Net, x: Tensor) -> Tensor:
    """Heads in unequal parts, as CoaT's position encodings: a sum within a product."""
    y = net.a(x).unflatten(-1, (4, 5)).permute(0, 2, 3, 1).flatten(1, 2)
    left, right = y.split([5, 15], dim=1)
    y = torch.cat([net.left(left), net.right(right)], 1)
    first = net.first(x[:, :1])
    y = y.unflatten(1, (4, 5)).permute(0, 3, 1, 2)
    y = torch.cat([first.unflatten(-1, (4, 5)), y], 1)
    return net.b(y.reshape(x.shape[0], x.shape[1] + 1, 20))


def like_another(net: Net, x: Tensor) -> Tensor:
    y = net.a(x)
    return net.b(torch.where(y > 0, y, torch.zeros_like(y)).type_as(net.other(x)))


def same(count: int, **more: nn.Module) -> dict[str, nn.Module]:
    layers = {name: nn.Linear(6, count) for name in ("q", "k", "v")}
    return {**layers, "out": nn.Linear(count, 5), **more}


CASES = {
    "mean and variance by hand": (hand_written_norm, IMAGE, {"a": 8}, lambda: {
        "a": conv(3, 8), "b": conv(8, 5)}),
    "mean and maximum over channels": (spatial_gate, IMAGE, {"a": 8}, lambda: {
        "a": conv(3, 8), "gate": conv(2, 1), "b": conv(8, 5)}),
    "length over features": (normalized, TOKENS, {"a": 8}, lambda: {
        "a": nn.Linear(6, 8), "b": nn.Linear(8, 5)}),
    "softmax over channels": (channel_attention, TOKENS, {"q": 8, "k": 8}, lambda: same(8)),
    "activations that are not zero at zero": (
        linear_attention, TOKENS, {"q": 8, "v": 8}, lambda: same(8)),
    "grouped queries": (grouped_queries, TOKENS, {"kv": 2, "q": 2, "qk": 6, "v": 5}, lambda: {
        "q": nn.Linear(6, 24), "k": nn.Linear(6, 12), "v": nn.Linear(6, 10),
        "out": nn.Linear(20, 5)}),
    "repeated keys": (repeated_keys, TOKENS, {"kv": 2, "q": 2, "qk": 6, "v": 5}, lambda: {
        "q": nn.Linear(6, 24), "k": nn.Linear(6, 12), "v": nn.Linear(6, 10),
        "out": nn.Linear(20, 5)}),
    "einsum with an ellipsis": (einsum_attention, TOKENS, {"heads": 4, "qk": 3, "v": 3},
        lambda: same(12)),
    "unfold and fold": (patches, IMAGE, {"a": 8}, lambda: {
        "a": conv(3, 8), "scale": nn.Identity(), "b": conv(8, 5)}),
    "pixel and channel shuffle": (shuffles, IMAGE, {"group": 2, "half": 2}, lambda: {
        "a": conv(3, 32), "b": conv(16, 5)}),
    "sampling": (sampled, IMAGE, {"a": 8}, lambda: {
        "a": conv(3, 8), "where": conv(3, 2), "b": conv(8, 5)}),
    "gathered tokens": (gathered, TOKENS, {"a": 8}, lambda: {
        "a": nn.Linear(6, 8), "score": nn.Linear(6, 1), "b": nn.Linear(8, 5)}),
    "transposed convolutions in groups": (upsampled, IMAGE, {"a": 4, "a2": 2, "g": 3}, lambda: {
        "a": conv(3, 8),
        "depthwise": nn.ConvTranspose2d(8, 8, 2, stride=2, groups=8),
        "grouped": nn.ConvTranspose2d(8, 12, 2, stride=2, groups=4),
        "b": conv(12, 5)}),
    "a product with its bias": (added_product, TOKENS, {"a": 8}, lambda: {
        "a": nn.Linear(6, 8), "b": nn.Linear(8, 5)}),
    "copies": (tiled, TOKENS, {"a": 8}, lambda: {
        "a": nn.Linear(6, 8), "b": nn.Linear(24, 5)}),
    "heads in unequal parts": (split_heads, TOKENS, {"heads": 3, "width": 5}, lambda: {
        "a": nn.Linear(6, 20), "first": nn.Linear(6, 20),
        "left": nn.Conv1d(5, 5, 3, padding=1, groups=5),
        "right": nn.Conv1d(15, 15, 5, padding=2, groups=15), "b": nn.Linear(20, 5)}),
    "tokens mixed by pointwise convolutions": (mixed_tokens, TOKENS, {"a": 8, "up": 12}, lambda: {
        "a": nn.Linear(6, 8), "up": nn.Conv1d(10, 12, 1), "down": nn.Conv1d(12, 10, 1),
        "b": nn.Linear(8, 5)}),
    "tokens merged by a pointwise convolution": (merged_tokens, TOKENS, {"a": 8}, lambda: {
        "a": nn.Linear(6, 8), "merge": nn.Conv2d(10, 1, (1, 1), padding="same"),
        "b": nn.Linear(8, 5)}),
    "zeros like another": (like_another, TOKENS, {"a": 8, "other": 8}, lambda: {
        "a": nn.Linear(6, 8), "other": nn.Linear(6, 8), "b": nn.Linear(8, 5)}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_family_is_free_and_cut_exactly(name):
    forward, shape, sizes, layers = CASES[name]
    torch.manual_seed(0)
    model = shake(Net(forward, layers()).double())
    net = trace(model, (torch.randn(shape, dtype=torch.float64),), step=1)
    assert not net.axis_map.unsupported
    found = sorted(dim.size for dim in net.dims.values())
    assert found == sorted(sizes.values()), net.dims
    for seed in range(3):
        plan = Plan.random(net, macs=0.5, seed=seed)
        assert verify(model, net, plan) < 1e-10


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module], **settings: bool | int) -> None:
        super().__init__()
        self.before = nn.Linear(6, 7)
        self.rnn = kind(7, 8, **settings)
        width = 16 if settings.get("bidirectional") else 8
        self.after = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(self.before(x))
        return self.after(y)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(
    "settings", [{}, {"bidirectional": True, "num_layers": 2}, {"bias": False, "num_layers": 2}]
)
def test_recurrent_layers(kind, settings):
    torch.manual_seed(0)
    model = Recurrent(kind, batch_first=True, **settings).double()
    net = trace(model, (torch.randn(TOKENS, dtype=torch.float64),), step=1)
    assert sorted(dim.size for dim in net.dims.values()) == [7, 8]
    for seed in range(3):
        assert verify(model, net, Plan.random(net, macs=0.5, seed=seed)) < 1e-10


SQUEEZES: dict[str, Callable[[Tensor], Tensor]] = {
    "all that are one": lambda y: y.squeeze(),
    "named ones": lambda y: y.squeeze((1, 2, -1)),
    "one that is none": lambda y: y.squeeze(1).flatten(1),
    "in place": lambda y: y.clone().squeeze_(-1).squeeze_(),
}


@pytest.mark.parametrize("name", SQUEEZES)
def test_channels_that_are_cut_to_one_stay_an_axis(name):
    torch.manual_seed(0)
    layers = {"a": conv(3, 8), "b": nn.Linear(8, 5)}
    model = Net(lambda net, x: net.b(SQUEEZES[name](net.a(x).mean((2, 3), True))), layers).double()
    net = trace(model, (torch.randn(IMAGE, dtype=torch.float64),), step=1)
    assert [dim.size for dim in net.dims.values()] == [8]
    for kept in ((3,), (1, 6)):
        assert verify(model, net, Plan(dict.fromkeys(net.dims, kept), {})) < 1e-10


NORMS: dict[str, Callable[[], nn.Module]] = {
    "instance": lambda: nn.InstanceNorm1d(10, affine=True),
    "group": lambda: nn.GroupNorm(2, 10),
    "batch": lambda: nn.BatchNorm1d(10, track_running_stats=False),
}


@pytest.mark.parametrize("name", NORMS)
def test_a_norm_along_features_runs_over_what_is_left_of_them(name):
    torch.manual_seed(0)
    layers = {"a": nn.Linear(6, 8), "norm": NORMS[name](), "b": nn.Linear(8, 5)}
    model = shake(Net(lambda net, x: net.b(net.norm(net.a(x))), layers).double()).eval()
    net = trace(model, (torch.randn(TOKENS, dtype=torch.float64),), step=1)
    assert [dim.size for dim in net.dims.values()] == [8]
    assert verify(model, net, Plan.random(net, macs=0.5, seed=0)) < 1e-10


def test_what_is_as_large_as_a_fixed_batch_is_counted() -> None:
    def end(net: Net, x: Tensor) -> Tensor:
        return net.b(net.a(x).relu())

    def insist(net: Net, x: Tensor) -> Tensor:
        return end(net, x).reshape(3, 5, 9)

    layers = {"a": conv(3, 8), "b": nn.Conv2d(8, 5, 2, stride=2, padding=1)}
    x = torch.randn(3, 3, 4, 4)
    with pytest.warns(PrunerWarning, match="batch of 3 only"):
        fixed = trace(Net(insist, layers), (x,), step=1)
    free = trace(Net(end, layers), (x,), step=1)
    assert free.fixed_batch is None and fixed.fixed_batch == 3
    assert count_macs(fixed) == count_macs(free)
    assert [cell.dense_sizes for cell in fixed.cells()] == [
        cell.dense_sizes for cell in free.cells()
    ]


def test_what_depends_on_positions_is_frozen():
    def winner(net: Net, x: Tensor) -> Tensor:
        y = net.a(x)
        return net.b(y * (y.argmax(-1, keepdim=True) == 3) + y.flip(-1))

    net = trace(Net(winner, {"a": nn.Linear(6, 8), "b": nn.Linear(8, 5)}), (torch.randn(TOKENS),))
    assert not net.dims
    assert any("argmax" in frozen.reason or "flip" in frozen.reason for frozen in net.frozen)
