"""Joins samples to a batch: tensors of equal shapes are stacked, what is ragged stays a list."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def collate(samples: Sequence[Any]) -> Any:
    """Join pytrees of one form, leaf by leaf.

    Dicts and tuples keep their form, and lists of one length too. Tensors and arrays of equal
    shapes are stacked along a new axis 0 and numbers become a tensor [n]; leaves of unequal shapes,
    texts and anything else become a list with an entry for every sample, and None stays None.
    """
    first = samples[0]
    if isinstance(first, Mapping):
        if all(isinstance(one, Mapping) and one.keys() == first.keys() for one in samples):
            return {key: collate([one[key] for one in samples]) for key in first}
        return list(samples)
    if isinstance(first, tuple | list):
        if not all(type(one) is type(first) and len(one) == len(first) for one in samples):
            return list(samples)
        joined = [collate(parts) for parts in zip(*samples, strict=True)]
        if isinstance(first, list):
            return joined
        return type(first)(*joined) if hasattr(first, "_fields") else tuple(joined)
    return _join_leaves(samples)


def to_tensor(leaf: Any) -> Any:
    """Return an array or a number as a tensor of its own (floats as float32); all else as it is."""
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
    found = [to_tensor(leaf) for leaf in leaves]
    first = found[0]
    alike = all(
        isinstance(one, Tensor) and one.shape == first.shape and one.dtype == first.dtype
        for one in found
    )
    return torch.stack(found) if alike else found
