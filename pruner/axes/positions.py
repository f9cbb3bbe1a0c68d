"""The positions along an axis: which stay after a cut, how many, and whose indices they are."""

from collections.abc import Mapping
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .algebra import Atom, Axis, Sum, atoms_of, parts_of, resolve_axis

Keep: TypeAlias = Mapping[Atom, NDArray[np.bool_]]
"""Atom -> [atom size] bool: the indices that stay; an atom that is not named stays whole."""


def kept_mask(axis: Axis, keep: Keep) -> NDArray[np.bool_]:
    """Return [axis.size] bool: the positions that stay when atoms keep these indices."""
    axis = resolve_axis(axis)
    if isinstance(axis, Atom):
        kept = keep.get(axis)
        return np.ones(axis.size, bool) if kept is None else kept
    if isinstance(axis, Sum):
        return np.concatenate([kept_mask(part, keep) for part in axis.parts] or [np.ones(0, bool)])
    result = np.ones(1, bool)
    for factor in axis.factors:
        result = np.outer(result, kept_mask(factor, keep)).ravel()
    return result


def axis_size(axis: Axis, sizes: Mapping[Atom, int]) -> int:
    """Return the size of an axis when atoms have these sizes (missing: uncut)."""
    axis = resolve_axis(axis)
    if isinstance(axis, Atom):
        return sizes.get(axis, axis.size)
    if isinstance(axis, Sum):
        return sum(axis_size(part, sizes) for part in axis.parts)
    return prod(axis_size(factor, sizes) for factor in axis.factors)


def owner_indices(axis: Axis, atom: Atom) -> NDArray[np.int64]:
    """Return [axis.size] int: the atom's index of each position, -1 where it belongs to none.

    Raises:
        ValueError: The atom occurs twice in one product, so that a position has two indices.
    """
    axis = resolve_axis(axis)
    if isinstance(axis, Atom):
        return np.arange(axis.size) if axis is atom else np.full(axis.size, -1)
    if isinstance(axis, Sum):
        return np.concatenate([owner_indices(part, atom) for part in axis.parts])
    result = np.full(1, -1)
    for factor in axis.factors:
        inner = owner_indices(factor, atom)
        if (result >= 0).any() and (inner >= 0).any():
            raise ValueError(f"an axis holds the same atom twice in one product: {axis!r}")
        result = np.maximum(result[:, None], inner[None, :]).ravel()
    return result


def axis_owners(axis: Axis) -> dict[Atom, NDArray[np.int64]]:
    """Return `owner_indices` of every atom that may be cut, in one pass over parts of a sum.

    One that may not can occur twice: the sides of a window.
    """
    result: dict[Atom, NDArray[np.int64]] = {}
    start = 0
    for part in parts_of(axis):
        for atom in dict.fromkeys(a for a in atoms_of(part) if a.reason is None):
            if atom not in result:
                result[atom] = np.full(axis.size, -1)
            result[atom][start : start + part.size] = owner_indices(part, atom)
        start += part.size
    return result
