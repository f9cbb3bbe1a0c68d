"""Which positions of a value stay, whatever batch and image size the value was computed at."""

from collections.abc import Mapping
from math import prod
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, fx

from ..axes import (
    Atom,
    Axes,
    Axis,
    AxisMap,
    Keep,
    Sum,
    atoms_of,
    axis_size,
    factors_of,
    kept_mask,
    resolve_axis,
)
from ..errors import PrunerError

Kept: TypeAlias = dict[int, Tensor]
"""Axis -> [kept positions] int, of the axes that are cut."""


class KeptPositions:
    """Finds the kept positions along the axes of values, as a network computes one by one.

    An axis may mix channels that are cut with what is as large as the input makes it: heads with
    the batch, channels with a flattened map. The sizes of the latter are read off values.

    Attributes:
        keep: Atom -> [atom size] bool, of the atoms that lose indices.
        sizes: Atom -> its size in this run, of those others that values have shown.
    """

    def __init__(self, axis_map: AxisMap, keep: Keep) -> None:
        self.axis_map = axis_map
        self.keep = {atom: kept for atom, kept in keep.items() if not kept.all()}
        self.sizes: dict[Atom, int] = {}

    def find(self, node: fx.Node, value: Any) -> Any:
        """Return the kept positions of every axis of a node's result, of several a row each."""
        axes = self.axis_map.axes.get(node, [])
        if axes and isinstance(axes[0], list):
            several = value if isinstance(value, list | tuple) else ()
            return [self._find(row, one) for row, one in zip(axes, several, strict=False)]
        return self._find(axes, value)

    def _find(self, axes: Axes, value: Any) -> Kept:
        found: Kept = {}
        if not self.keep or not isinstance(value, Tensor) or len(axes) != value.dim():
            return found
        for d, (axis, size) in enumerate(zip(map(resolve_axis, axes), value.shape, strict=True)):
            if not self.keep.keys().isdisjoint(atoms_of(axis)):
                kept = kept_mask(axis, {**self.keep, **self._fit_sizes(axis, size)})
                found[d] = torch.from_numpy(np.flatnonzero(kept))
            elif isinstance(axis, Atom):
                self.sizes.setdefault(axis, size)
        return found

    def count(self, axis: Axis) -> int:
        """Return how many positions of an axis stay."""
        return int(kept_mask(axis, self.keep).sum())

    def _fit_sizes(self, axis: Axis, size: int) -> Keep:
        """Return [size] bool, all true, of the atoms of an axis that are not cut.

        Where the sizes known so far do not make up the axis, those parts that no value has shown
        yet take the difference: they differ where they stand together, or there is one.

        Raises:
            PrunerError: The sizes cannot be told.
        """
        sizes: Mapping[Atom, int] = self.sizes
        if axis_size(axis, sizes) != size:
            for known in (self.sizes, {}):  # one may stand for two that were equally large
                fitted = self._refit(axis, size, known)
                if fitted is not None:
                    sizes = fitted
                    break
            else:
                raise PrunerError(
                    f"cannot tell which of the {size} positions of an axis stay: what it is made "
                    f"of, {axis!r} when it was traced, may have changed in several ways"
                )
        whole = {a for a in atoms_of(axis) if a not in self.keep and a in sizes}
        return {atom: np.ones(sizes[atom], bool) for atom in whole}

    def _refit(self, axis: Axis, size: int, known: Mapping[Atom, int]) -> Mapping[Atom, int] | None:
        """Return sizes of atoms that make an axis as large; None where several do, or none."""
        for part in axis.parts if isinstance(axis, Sum) else (axis,):
            others = axis_size(axis, self.sizes) - axis_size(part, self.sizes)
            factors = factors_of(part)
            run = [
                place
                for place, factor in enumerate(factors)
                if isinstance(factor, Atom) and factor not in self.keep and factor not in known
            ]
            atoms: set[Any] = {factors[place] for place in run}
            fixed = prod(axis_size(f, self.sizes) for f in factors if f not in atoms)
            wanted, rest = divmod(size - others, fixed)
            if run and len(run) == len(atoms) == run[-1] - run[0] + 1 and not rest and wanted > 0:
                first = factors[run[0]]
                return {**self.sizes, **dict.fromkeys(atoms, 1), first: wanted}  # type: ignore[dict-item]
        return None
