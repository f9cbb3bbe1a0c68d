"""Randomness of training: an operator for the graph, layers for the module."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_LIBRARY = torch.library.Library("msprune", "FRAGMENT")
_LIBRARY.define("drop_path(Tensor(a) input, float p, str mode, bool scale_by_keep) -> Tensor(a)")
_LIBRARY.impl("drop_path", lambda x, p, mode, scale: x, "CompositeImplicitAutograd")

drop_path = torch.ops.msprune.drop_path.default
"""Marks in a graph where stochastic depth acts in training; in inference it is its input."""


class DropPath(nn.Module):
    """Stochastic depth (G. Huang et al., "Deep Networks with Stochastic Depth", 2016).

    In training each sample (mode ``"row"``), or the whole batch (``"batch"``), becomes zero with
    probability p; what stays is divided by 1 - p where ``scale_by_keep``.
    """

    def __init__(self, p: float, mode: str = "row", scale_by_keep: bool = True) -> None:
        super().__init__()
        self.p, self.mode, self.scale_by_keep = p, mode, scale_by_keep

    def forward(self, x: Tensor) -> Tensor:
        """Drop samples in training; return x in evaluation."""
        if not self.training or self.p == 0.0:
            return x
        keep = 1.0 - self.p
        size = [x.shape[0] if self.mode == "row" else 1, *[1] * (x.dim() - 1)]
        mask = x.new_empty(size).bernoulli_(keep)
        if self.scale_by_keep and keep > 0.0:
            mask.div_(keep)
        return x * mask

    def extra_repr(self) -> str:
        """Return the settings, as torch prints them."""
        return f"p={self.p:g}, mode={self.mode!r}"


class DotProductAttention(nn.Module):
    """``scaled_dot_product_attention`` whose weights are dropped with probability p in training."""

    def __init__(
        self, p: float, is_causal: bool = False, scale: float | None = None, gqa: bool = False
    ) -> None:
        super().__init__()
        self.p, self.is_causal, self.scale, self.gqa = p, is_causal, scale, gqa

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Any = None) -> Tensor:
        """Return the values, weighted by softmax(query key^T scale) with dropout in training."""
        return functional.scaled_dot_product_attention(
            query, key, value, mask,
            dropout_p=self.p if self.training else 0.0,
            is_causal=self.is_causal, scale=self.scale, enable_gqa=self.gqa,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """Return the settings, as torch prints them."""
        return f"p={self.p:g}, is_causal={self.is_causal}, scale={self.scale}"
