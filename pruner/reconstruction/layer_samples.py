"""Inputs and outputs of a convolution or linear layer at some of its spatial positions."""

import math

import torch
from torch import Tensor, nn

from ..graph import LinearLayer
from ..utils import make_generator


def draw_positions(layer: LinearLayer, y: Tensor, count: int, *key: int | str) -> Tensor:
    """Draw at most ``count`` positions of a layer's output y, seeded by the key: [positions] int.

    A convolution's position is a pixel of the map, a linear layer's a row of an image.
    """
    size = y[0, 0].numel() if isinstance(layer, nn.Conv2d) else y[0].numel() // y.shape[-1]
    seed = make_generator("places", *key)  # the former name: seeds stay
    return torch.randperm(size, generator=seed)[:count].to(y.device)


def sample_outputs(layer: LinearLayer, y: Tensor, at: Tensor) -> Tensor:
    """Return a layer's output y at these positions: [images, positions, channels]."""
    if isinstance(layer, nn.Linear):
        return y.reshape(len(y), -1, y.shape[-1])[:, at]
    return y.flatten(2).index_select(2, at).transpose(1, 2)


def sample_inputs(layer: LinearLayer, x: Tensor, y_shape: torch.Size, at: Tensor) -> Tensor:
    """Return what a layer reads of x for these positions of its output.

    The shape is [images, positions, inputs, kernel], of a linear layer [images, positions, inputs].
    """
    if isinstance(layer, nn.Linear):
        return x.reshape(len(x), -1, x.shape[-1])[:, at]
    (kh, kw), (sh, sw), (dh, dw) = layer.kernel_size, layer.stride, layer.dilation
    if isinstance(layer.padding, str):
        extra = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        high, wide = extra if layer.padding == "same" else (0, 0)
        pads = (wide // 2, wide - wide // 2, high // 2, high - high // 2)
    else:
        pads = (layer.padding[1], layer.padding[1], layer.padding[0], layer.padding[0])
    if any(pads):
        x = nn.functional.pad(x, pads)
    rows = (at // y_shape[3] * sh)[:, None, None] + dh * torch.arange(kh, device=x.device)[:, None]
    columns = (at % y_shape[3] * sw)[:, None, None] + dw * torch.arange(kw, device=x.device)
    where = (rows * x.shape[3] + columns).flatten()  # [positions * kernel]
    found = x.flatten(2).index_select(2, where)
    return found.reshape(len(x), x.shape[1], len(at), -1).transpose(1, 2)


def mark_holdout(rows: Tensor) -> Tensor:
    """Mark every fifth row, which chooses a ridge instead of fitting the weights: [rows] bool."""
    return (torch.arange(len(rows)) % 5 == 4).to(rows.device)


def split_groups(rows: Tensor, groups: int) -> Tensor:
    """Regroup [images, positions, channels, ...] as [groups, rows, channels of a group * ...]."""
    rows = rows.flatten(0, 1)
    width = math.prod(rows.shape[1:])
    return rows.reshape(len(rows), groups, width // groups).transpose(0, 1)
