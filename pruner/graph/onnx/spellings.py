"""Operators written with others that the exporter and ONNX Runtime know."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_ATTENTION = torch.ops.aten.scaled_dot_product_attention.default


def _attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *rest: Any, **named: Any
) -> Tensor:
    """Attend over four axes, which is all that the exporter knows: fold those in front."""
    if query.dim() == 4:
        return _ATTENTION(query, key, value, mask, *rest, **named)
    front = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])

    def fold(x: Tensor) -> Tensor:
        x = x.expand(*front, *x.shape[-2:])
        return x.unsqueeze(1) if len(front) == 1 else x.flatten(0, -4)

    mask = named.pop("attn_mask", mask)
    result = _ATTENTION(
        fold(query), fold(key), fold(value), mask if mask is None else fold(mask), *rest, **named
    )
    return result.reshape(*front, *result.shape[-2:])


def _select(mask: Tensor, chosen: Tensor, other: Tensor) -> Tensor:
    """Select between truth values by logic: ONNX Runtime's Where takes numbers only."""
    if chosen.dtype != torch.bool or other.dtype != torch.bool:
        return torch.where(mask, chosen, other)
    return (mask & chosen) | (~mask & other)


def _fill(x: Tensor, mask: Tensor, value: Tensor | float | bool) -> Tensor:
    """Fill truth values by logic, as `_select` does."""
    if x.dtype != torch.bool:
        return x.masked_fill(mask, value)  # type: ignore[arg-type]
    if isinstance(value, Tensor):
        return _select(mask, value.bool(), x)
    return x | mask if value else x & ~mask


def _accumulate_max(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return the running maximum along an axis and its (last) places; of n values in n * n steps.

    Every place looks at those up to it, the others hold the first value, which is one of them.
    """
    last = x.movedim(dim, -1)
    before = torch.ones(last.shape[-1], last.shape[-1], dtype=torch.bool).tril()
    seen = torch.where(before, last.unsqueeze(-2), last[..., :1].unsqueeze(-2))
    largest = seen.amax(-1)
    equal = (seen == largest.unsqueeze(-1)) & before
    places = torch.arange(last.shape[-1])
    index = torch.where(equal, places, torch.zeros_like(places)).amax(-1)
    return largest.movedim(-1, dim), index.movedim(-1, dim)


def _accumulate_min(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return the running minimum along an axis and its places, as `_accumulate_max` does."""
    largest, index = _accumulate_max(-x, dim)
    return -largest, index


def _subtract_from(x: Tensor, other: float, alpha: float = 1) -> Tensor:
    """Subtract whole numbers from a number in the type of the result, which the exporter mixes."""
    return torch.rsub(x.to(torch.result_type(x, other)), other, alpha=alpha)


SPELLINGS: dict[Any, Callable[..., Any]] = {
    _ATTENTION: _attend,
    torch.ops.aten.where.self: _select,
    torch.ops.aten.masked_fill.Scalar: _fill,
    torch.ops.aten.masked_fill.Tensor: _fill,
    torch.ops.aten.cummax.default: _accumulate_max,
    torch.ops.aten.cummin.default: _accumulate_min,
    torch.ops.aten.rsub.Scalar: _subtract_from,
}
"""Operators that are exported as other ones, which the exporter or ONNX Runtime knows."""
