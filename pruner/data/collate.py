"""Joins samples to a batch: tensors of equal shapes are stacked, what is ragged stays a list."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def collate(samples: Sequence[Any]) -> Any:
    """Join pytrees of one form, leaf by leaf.

    Dicts and tuples keep their form, and lists of one length become tuples: in a batch a list has
    an entry for every sample. Tensors, arrays and lists of numbers of equal shapes are stacked
    along a new axis 0, and numbers become a tensor [n]; leaves of unequal shapes, texts and
    anything else become a list, and None stays None.
    """
    first = samples[0]
    if isinstance(first, Mapping):
        if all(isinstance(one, Mapping) and one.keys() == first.keys() for one in samples):
            return {key: collate([one[key] for one in samples]) for key in first}
        return list(samples)
    samples = [to_tensor(one) for one in samples]
    first = samples[0]
    if isinstance(first, tuple | list):
        if not all(type(one) is type(first) and len(one) == len(first) for one in samples):
            return list(samples)
        joined = [collate(parts) for parts in zip(*samples, strict=True)]
        return type(first)(*joined) if hasattr(first, "_fields") else tuple(joined)
    return _join_leaves(samples)


def to_tensor(leaf: Any) -> Any:
    """Return an array or number, or a list of numbers, as a tensor; all else as it is.

    Floats of 64 bits become float32.
    """
    if isinstance(leaf, list) and leaf and not isinstance(leaf[0], Tensor):
        try:
            array = np.array(leaf)
        except ValueError:  # lists of unequal lengths
            return leaf
        return to_tensor(array) if array.dtype.kind in "biuf" else leaf
    if isinstance(leaf, np.ndarray | np.generic):
        array = np.asarray(leaf)
        if array.dtype.kind not in "biuf":
            return leaf.item() if array.ndim == 0 else array.tolist()
        # A copy: torch needs memory that may be written, in the machine's byte order.
        leaf = torch.from_numpy(np.array(array, array.dtype.newbyteorder("="), order="C"))
        return leaf.float() if leaf.dtype == torch.float64 else leaf
    if isinstance(leaf, bool | int | float):
        return torch.tensor(leaf)
    return leaf


def _join_leaves(leaves: Sequence[Any]) -> Any:
    if all(leaf is None for leaf in leaves):
        return None
    first = leaves[0]
    alike = all(
        isinstance(one, Tensor) and one.shape == first.shape and one.dtype == first.dtype
        for one in leaves
    )
    return torch.stack(list(leaves)) if alike else list(leaves)
