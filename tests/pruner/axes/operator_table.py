"""Calls of ATen's operators between layers whose channels are cut: reductions to convolutions.

Each is made on tokens [batch, 4, 8] or on a map [batch, 8, 4, ...], by a function of a module with
layers of its own and of that value; ``reads`` is how many channels its result has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import ops

WIDTH = 8


@dataclass(frozen=True)
class Call:
    """What is done between two layers.

    Attributes:
        function: Of the module around it and of a value.
        reads: The channels of its result.
        rank: Of the map; 0 for tokens.
        layers: Made anew for every module, by name.
    """

    function: Callable[[Any, Tensor], Tensor]
    reads: int = WIDTH
    rank: int = 0
    layers: dict[str, Callable[[], nn.Module]] = field(default_factory=dict)


class Between(nn.Module):
    """A layer, a call, a layer that reads the channels of its result."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        kind: Any = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)[call.rank]
        size = (1,) if call.rank else ()
        self.a, self.b = kind(3, WIDTH, *size), kind(call.reads, 5, *size)
        self.call = call.function
        for name, make in call.layers.items():
            self.add_module(name, make())

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.b(self.call(self, self.a(x)))
        return result


class Side(nn.Module):
    """Several of these side by side, each with a result of its own."""

    def __init__(self, calls: dict[str, Call]) -> None:
        super().__init__()
        self.each = nn.ModuleList(Between(call) for call in calls.values())

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(one(x) for one in self.each)


def _linear() -> nn.Module:
    return nn.Linear(WIDTH, WIDTH)


def _tokens(function: Callable[[Any, Tensor], Tensor], reads: int = WIDTH, **layers: Any) -> Call:
    return Call(function, reads, 0, layers)


def _map(
    function: Callable[[Any, Tensor], Tensor], reads: int = WIDTH, rank: int = 2, **layers: Any
) -> Call:
    return Call(function, reads, rank, layers)


def _layer(make: Callable[[], nn.Module], reads: int = WIDTH, rank: int = 2) -> Call:
    return Call(lambda net, x: net.c(x), reads, rank, {"c": make})


def _write(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, torch.tensor([1, 3])] = x[:, :2] * 2
    return y


def _boxes(x: Tensor) -> Tensor:
    return torch.tensor([[0.0, 0, 0, 3, 3], [1, 1, 0, 3, 2], [1, 0, 0, 1, 1]]).to(x)


def _along(name: str, dim: int) -> Call:
    return _tokens(lambda net, x: x * getattr(torch, name)(x, dim=dim, keepdim=True))


REDUCTIONS = {
    **{f"{name} over {dim}": _along(name, dim) for dim in (1, -1) for name in
       ("mean", "amax", "amin", "logsumexp", "prod", "sum", "nansum", "nanmean")},
    "std": _along("std", 1), "var": _along("var", 1), "argmax of tokens": _along("argmax", 1),
    "any": _tokens(lambda net, x: x * (x > 1).any(-1, keepdim=True)),
    "all": _tokens(lambda net, x: x * (x > -1).all(-1, keepdim=True)),
    "count_nonzero": _tokens(lambda net, x: x * torch.count_nonzero(x > 0, -1).unsqueeze(-1)),
    "aminmax": _tokens(lambda net, x: x * torch.aminmax(x, dim=-1, keepdim=True)[0]),
    "median": _tokens(lambda net, x: x * x.median(-1, keepdim=True).values),
    "max and where": _tokens(lambda net, x: x * x.max(1, keepdim=True).indices),
    "sum of all": _tokens(lambda net, x: x * x.sum() / 99),
    "a norm": _tokens(lambda net, x: x / x.norm(p=1, dim=-1, keepdim=True)),
    "cumsum": _tokens(lambda net, x: x.cumsum(1)),
    "logcumsumexp": _tokens(lambda net, x: x.logcumsumexp(1)),
    "sort": _tokens(lambda net, x: x.sort(1).values),
    "topk": _tokens(lambda net, x: x.topk(3, 1).values),
    "kthvalue": _tokens(lambda net, x: x * x.kthvalue(2, 1, keepdim=True).values),
    "quantile": _tokens(lambda net, x: x * x.quantile(0.5, 1, keepdim=True)),
    "roll": _tokens(lambda net, x: x.roll(1, 1)),
    "flip": _tokens(lambda net, x: x.flip(1)),
    "rms_norm": _tokens(lambda net, x: functional.rms_norm(x, (4, WIDTH))),
    "softmax": _tokens(lambda net, x: x.softmax(-1) + x.log_softmax(1)),
}  # fmt: skip

SHAPES = {
    "view": _tokens(lambda net, x: x.view(len(x), 4, 2, 4).mT.flatten(2)),
    "squeeze": _tokens(lambda net, x: x[:, None, :, :, None].squeeze(-1).squeeze(1)),
    "expand": _tokens(lambda net, x: x.unsqueeze(1).expand(-1, 3, -1, -1).sum(1)),
    "repeat": _tokens(lambda net, x: x.repeat(1, 2, 2), 16),
    "repeat_interleave": _tokens(lambda net, x: x.repeat_interleave(2, -1), 16),
    "copies that differ": _tokens(
        lambda net, x: x.repeat_interleave(torch.tensor([1, 2, 1, 1]), 1)),
    "cat": _tokens(lambda net, x: torch.cat([x, x.relu()], -1), 16),
    "stack": _tokens(lambda net, x: torch.stack([x, x.relu()], -1).flatten(2), 16),
    "split": _tokens(lambda net, x: torch.cat(x.split([3, 5], -1)[::-1], -1)),
    "chunk": _tokens(lambda net, x: sum(x.chunk(2, -1)), 4),  # type: ignore[arg-type, return-value]
    "slice": _tokens(lambda net, x: x[:, ::2, -3:], 3),
    "slice from before the first": _tokens(lambda net, x: x[:, -9:3, -20:3], 3),
    "select": _tokens(lambda net, x: x + x[:, :1] + x.select(1, 0).unsqueeze(1)),
    "unbind": _tokens(lambda net, x: torch.stack(x.unbind(1), 1)),
    "diag_embed": _tokens(lambda net, x: torch.diag_embed(x).sum(-1)),
    "a triangle": _tokens(lambda net, x: x.new_ones(4, 4).tril() @ x),
    "linspace and arange": _tokens(
        lambda net, x: x * torch.linspace(0, 1, WIDTH) + torch.arange(WIDTH)),
    "eye": _tokens(lambda net, x: x @ (torch.eye(WIDTH) + net.c.weight.float()).to(x), c=_linear),
    "meshgrid": _tokens(lambda net, x: x + torch.meshgrid(
        torch.arange(4.0), torch.arange(8.0), indexing="ij")[1]),
    "zeros": _tokens(lambda net, x: torch.cat([x, x.new_zeros(len(x), 4, 2)], -1), 10),
    "pad channels": _tokens(lambda net, x: functional.pad(x, (2, 1), value=1.0), 11),
    "diagonal": _map(lambda net, x: x.diagonal(0, 2, 3).unsqueeze(-1)),
    "rot90": _map(lambda net, x: x.rot90(1, (2, 3))),
}  # fmt: skip

INDICES = {
    "index": _tokens(lambda net, x: x[:, torch.tensor([0, 2, 1])]),
    "index two": _map(
        lambda net, x: x[:, :, torch.tensor([0, 1]), torch.tensor([1, 2])].unsqueeze(-1)),
    "a mask": _tokens(lambda net, x: x[:, torch.tensor([True, False, True, True])]),
    "index_select": _tokens(lambda net, x: x.index_select(1, torch.tensor([0, 2]))),
    "gather": _tokens(lambda net, x: x.gather(1, x.argsort(1))),
    "scatter": _tokens(lambda net, x: torch.zeros_like(x).scatter(1, x.argsort(1), x)),
    "scatter_reduce": _tokens(
        lambda net, x: x.scatter_reduce(1, (x > 0).long(), x, "amax")),
    "index_add": _tokens(lambda net, x: x.index_add(1, torch.tensor([0, 2]), x[:, :2])),
    "index_put": _tokens(lambda net, x: _write(x)),
    "select_scatter": _tokens(lambda net, x: x.select_scatter(x[:, 0], 1, 2)),
    "slice_scatter": _tokens(lambda net, x: x.slice_scatter(x[..., :3], -1, 2, 5)),
    "where": _tokens(lambda net, x: torch.where(x > 0, 1.0, x.masked_fill(x < -1, 2.0))),
    "embedding": _tokens(
        lambda net, x: x + net.c(torch.bucketize(x.mean(-1), torch.linspace(-1, 1, 5).to(x))),
        c=lambda: nn.Embedding(9, WIDTH)),
    "one_hot": _tokens(
        lambda net, x: x + functional.one_hot((x > 0).sum(-1), 9).to(x) @ net.c.weight,
        c=lambda: nn.Embedding(9, WIDTH)),
    "searchsorted": _tokens(
        lambda net, x: x * torch.searchsorted(torch.linspace(-1, 1, 5).to(x), x)),
    "isin": _tokens(lambda net, x: x * torch.isin((2 * x).int(), torch.tensor([0, 1]))),
}  # fmt: skip

MAPS = {
    **{f"pad {mode}": _map(lambda net, x, mode=mode: functional.pad(x, (1, 1, 2, 0), mode))
       for mode in ("constant", "reflect", "circular", "replicate")},
    "pools": _map(
        lambda net, x: functional.avg_pool2d(x, 3, 2, 1, ceil_mode=True)
        * functional.max_pool2d(x, 3, 2, 1, ceil_mode=True)
    ),
    "adaptive pools": _map(lambda net, x: functional.adaptive_avg_pool2d(
        x, (2, 1)) + functional.adaptive_max_pool2d(x, (2, 1))),
    "pool of channels of one": _map(
        lambda net, x: functional.avg_pool3d(x.unsqueeze(1), (1, 2, 2)).squeeze(1)),
    "unpool": _map(lambda net, x: functional.max_unpool2d(
        *functional.max_pool2d(x, 2, return_indices=True), 2)),
    "local_response_norm": _map(lambda net, x: functional.local_response_norm(x, 4, 1.0)),
    "of joined channels": _map(
        lambda net, x: functional.local_response_norm(torch.cat([x, net.c(x)], 1), 5, 1.0), 16,
        c=lambda: nn.Conv2d(WIDTH, WIDTH, 1)),
    **{f"interpolate {mode}": _map(
        lambda net, x, mode=mode: functional.interpolate(x, scale_factor=2, mode=mode))
       for mode in ("nearest", "nearest-exact", "bilinear", "bicubic", "area")},
    "antialias": _map(lambda net, x: functional.interpolate(
        x, size=(3, 3), mode="bicubic", antialias=True)),
    "group_norm": _map(lambda net, x: functional.group_norm(x, 4)),
    "batch_norm": _layer(lambda: nn.BatchNorm2d(WIDTH, track_running_stats=False)),
    "unfold and fold": _map(lambda net, x: functional.fold(
        functional.unfold(x, 2, stride=2), (4, 4), 2, stride=2)),
    "windows": _map(lambda net, x: x.unfold(2, 2, 2).mean(-1)),
    "pixel_shuffle": _map(lambda net, x: functional.pixel_shuffle(x, 2), 2),
    "pixel_unshuffle": _map(lambda net, x: functional.pixel_unshuffle(x, 2), 32),
    "channel_shuffle": _map(lambda net, x: functional.channel_shuffle(x, 2)),
    "grid_sample": _map(lambda net, x: functional.grid_sample(
        x, x.mean(1)[..., None].expand(-1, -1, -1, 2).tanh(), align_corners=False)),
    "affine_grid": _map(lambda net, x: functional.grid_sample(x, functional.affine_grid(
        torch.eye(2, 3).to(x).expand(len(x), 2, 3), [len(x), 8, 3, 3], False),
        align_corners=False)),
    "fft": _map(lambda net, x: torch.fft.irfft2(torch.fft.rfft2(x), s=(4, 4))),
    "groups": _layer(lambda: nn.Conv2d(WIDTH, 12, 3, groups=2), 12),
    "depthwise": _layer(lambda: nn.Conv2d(WIDTH, 16, 3, groups=8, padding="same"), 16),
    "transposed": _layer(lambda: nn.ConvTranspose2d(WIDTH, 12, 3, 2, output_padding=1), 12),
    "transposed groups": _layer(lambda: nn.ConvTranspose2d(WIDTH, 12, 3, groups=4), 12),
    "transposed depthwise": _layer(lambda: nn.ConvTranspose2d(WIDTH, 16, 2, groups=8), 16),
    "regions": _map(lambda net, x: ops.roi_align(x, _boxes(x), (2, 2))
                    + ops.roi_pool(x, _boxes(x), (2, 2))),
    "parts of regions": _map(lambda net, x: ops.ps_roi_align(x, _boxes(x), (2, 2))
                             + ops.ps_roi_pool(x, _boxes(x), (2, 2)), 2),
    "a weight twice": _map(lambda net, x: functional.conv_transpose2d(
        net.c(x), net.c.weight.flip(2)), c=lambda: nn.Conv2d(WIDTH, WIDTH, 2)),
}  # fmt: skip

LINES = {
    "conv1d": _layer(lambda: nn.Conv1d(
        WIDTH, WIDTH, 3, padding=1, padding_mode="circular", groups=2), rank=1),
    "conv_transpose1d": _layer(lambda: nn.ConvTranspose1d(WIDTH, WIDTH, 3, groups=2), rank=1),
    "pool": _map(lambda net, x: functional.max_pool1d(x, 2) * functional.avg_pool1d(x, 2), rank=1),
    "linear": _map(lambda net, x: functional.interpolate(
        x, size=7, mode="linear", align_corners=True), rank=1),
    "neighbours": _map(lambda net, x: functional.local_response_norm(x, 3, 1.0), rank=1),
}  # fmt: skip

VOLUMES = {
    "conv3d": _layer(lambda: nn.Conv3d(WIDTH, WIDTH, (1, 2, 3), groups=2), rank=3),
    "conv_transpose3d": _layer(lambda: nn.ConvTranspose3d(WIDTH, WIDTH, 2), rank=3),
    "pools": _map(lambda net, x: functional.max_pool3d(x, 2) * functional.avg_pool3d(x, 2), rank=3),
    "trilinear": _map(lambda net, x: functional.interpolate(
        x, size=(3, 5, 6), mode="trilinear"), rank=3),
    "neighbours": _map(lambda net, x: functional.local_response_norm(x, 3, 1.0), rank=3),
}  # fmt: skip

PRODUCTS = {
    "matmul": _tokens(lambda net, x: x @ net.c.weight, c=_linear),
    "bmm": _tokens(lambda net, x: torch.bmm(torch.bmm(x, x.mT).softmax(-1), x)),
    "baddbmm": _tokens(lambda net, x: torch.baddbmm(x, x @ x.mT, x, beta=0.5)),
    "addmm": _tokens(lambda net, x: torch.addmm(
        net.c.bias, x.flatten(0, 1), net.c.weight, alpha=2).view(-1, 4, 8), c=_linear),
    "mv": _tokens(lambda net, x: x * torch.mv(x.flatten(0, 1), net.c.bias).view(-1, 4, 1),
                  c=_linear),
    "outer": _tokens(lambda net, x: x + torch.outer(torch.arange(4), net.c.bias), c=_linear),
    "einsum": _tokens(lambda net, x: torch.einsum("btc,bsc,bsd->btd", x, x, x)),
    "tensordot": _tokens(lambda net, x: torch.tensordot(x, net.c.weight, ([-1], [1])), c=_linear),
    "bilinear": _layer(lambda: _Bilinear(), rank=0),
    "cdist": _tokens(lambda net, x: torch.cdist(x, x) @ x),
    "vecdot": _tokens(lambda net, x: torch.linalg.vecdot(x, x).unsqueeze(-1) * x),
    "lerp": _tokens(lambda net, x: torch.lerp(x, x.relu(), net.c.bias), c=_linear),
    "addcmul": _tokens(lambda net, x: torch.addcmul(x, x, net.c.bias, value=0.5), c=_linear),
    "complex": _tokens(lambda net, x: torch.polar(x.abs(), x).real + torch.complex(x, x).abs()),
    "logical": _tokens(lambda net, x: x * ((x > 0) ^ (x > 1) | (x < 0.5) & (x > -1))),
    "pairs as complex numbers": _tokens(lambda net, x: torch.view_as_real(torch.view_as_complex(
        torch.cat([x, net.c(x)], -1)[..., :8].unflatten(-1, (4, 2))) * (1 + 2j)).flatten(-2),
        c=_linear),
    "numbers of few bits": _tokens(lambda net, x: x * net.c.table.to(x.dtype).view(1, 1, -1),
                                   c=lambda: _Table()),
    "shifted": _tokens(lambda net, x: x * ((x * 10).int() << 1)),
    "of the batch": _tokens(lambda net, x: x - x.mean(0, keepdim=True) + x.flip(0)),
}  # fmt: skip


class _Table(nn.Module):
    """Holds a small integer a channel."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.arange(1, WIDTH + 1, dtype=torch.int8))


class _Bilinear(nn.Module):
    """Reads the same channels twice."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Bilinear(WIDTH, WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.inner(x, x.relu())
        return result


EXACT = {"reductions": REDUCTIONS, "shapes": SHAPES, "indices": INDICES, "maps": MAPS,
         "lines": LINES, "volumes": VOLUMES, "products": PRODUCTS}  # fmt: skip
"""Calls that leave channels free, by kind."""

FROZEN = {
    "cumsum": (_tokens(lambda net, x: x.cumsum(-1)), "worked along by cumsum"),
    "sort": (_tokens(lambda net, x: x.sort(-1).values), "worked along by sort"),
    "topk": (_tokens(lambda net, x: x.topk(3, -1).values, 3), "worked along by topk"),
    "roll": (_tokens(lambda net, x: x.roll(1, -1)), "worked along by roll"),
    "flip": (_tokens(lambda net, x: x.flip(-1)), "worked along by flip"),
    "tril": (_tokens(lambda net, x: x.tril()), "worked along by tril"),
    "argmax": (_tokens(lambda net, x: x * x.argmax(-1, keepdim=True)), "reduced by argmax"),
    "unbind": (_tokens(lambda net, x: torch.stack(x.unbind(-1)[:4], -1), 4), "selected from"),
    "a step": (_tokens(lambda net, x: x[..., ::2], 4), "sliced"),
    "index": (_tokens(lambda net, x: x[..., torch.tensor([0, 2, 1])], 3), "indexed"),
    "index_select": (_tokens(lambda net, x: x.index_select(-1, torch.arange(2)), 2), "indexed"),
    "index_fill": (_tokens(lambda net, x: x.index_fill(-1, torch.tensor([0]), 2.0)),
                   "written along by index_fill"),
    "one_hot": (_tokens(lambda net, x: x + functional.one_hot((x > 0).sum(-1) % 8, 8)),
                "classes of one_hot"),
    "fft": (_tokens(lambda net, x: torch.fft.fft(x).real), "transformed by fft_fft"),
    "solve": (_tokens(lambda net, x: torch.linalg.solve(x @ x.mT + torch.eye(4).to(x), x)),
              "linalg_solve in each.14 has no rule"),
    "masked_scatter": (_tokens(lambda net, x: x.masked_scatter(x > 0, x.flip(1))),
                       "single positions that depend on data"),
}  # fmt: skip
"""Calls that hold the channels that they read, with the reason."""
