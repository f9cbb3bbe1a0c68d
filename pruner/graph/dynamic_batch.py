"""Arguments for ``torch.export`` whose first axis, the batch, is free."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

ExportCall = tuple[tuple[Any, ...], dict[str, Any], Any]
"""Example arguments, keyword arguments, and their dynamic shapes (None: all are fixed)."""


def free_batch(
    model: nn.Module, inputs: tuple[Any, ...], kwargs: Mapping[str, Any], batch: Any
) -> ExportCall:
    """Return the arguments with every tensor's first axis free.

    Args:
        model: What is called with them.
        inputs: Example arguments; a tensor of batch 1 is doubled, else 1 would be taken for fixed.
        kwargs: Example keyword arguments.
        batch: The ``torch.export.Dim`` of the batch.
    """

    def widen(leaf: Any) -> Any:
        return torch.cat([leaf, leaf]) if _has_batch(leaf) and len(leaf) == 1 else leaf

    args, keywords = pytree.tree_map(widen, (inputs, dict(kwargs)))
    free, free_keywords = pytree.tree_map(
        lambda leaf: {0: batch} if _has_batch(leaf) else None, (inputs, dict(kwargs))
    )
    if not kwargs:
        return args, keywords, free
    # With keyword arguments, torch.export wants all dynamic shapes in one dictionary by name.
    names = [name for name in inspect.signature(model.forward).parameters if name not in kwargs]
    return args, keywords, {**dict(zip(names, free)), **free_keywords}


def _has_batch(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.dim() > 0
