"""The widths of cells as functions of the solver's variables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import dropwhile, product
from operator import not_
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from solver import Table

from ..axes import (
    Atom,
    Axis,
    Product,
    Sum,
    atoms_of,
    axis_size,
    factors_of,
    parts_of,
    resolve_axis,
)
from ..structure import Dim, Network, keep_variable, size_variable, sum_variable

# Joint options up to which a sum of parts that share variables (queries, keys and values: the
# number of heads) is read as a function of those. A variable of its own would not take them apart:
# an elimination joins them all the same, and that variable besides.
_JOINT = 10_000
_NETWORK = "network"

_Polynomial: TypeAlias = Counter[tuple[str, ...]]
_Key: TypeAlias = tuple[int, tuple[int, ...], int, tuple[tuple[tuple[str, ...], int], ...]]


@dataclass(frozen=True)
class Width:
    """A size as a function of variables: values [options of each], a number where there is none."""

    variables: tuple[str, ...]
    values: NDArray[np.int64]

    def align(self, scope: Sequence[str]) -> NDArray[np.int64]:
        """Return the values with an axis for every variable of the scope, to be broadcast."""
        order = sorted(range(len(self.variables)), key=lambda i: scope.index(self.variables[i]))
        missing = [i for i, name in enumerate(scope) if name not in self.variables]
        return np.expand_dims(self.values.transpose(order), missing)

    def combine(self, other: Width, operation: np.ufunc) -> Width:
        """Apply an operation of two numbers over the union of the variables of both."""
        scope = join_scopes((self, other))
        return Width(scope, operation(self.align(scope), other.align(scope)))


def join_scopes(widths: Sequence[Width]) -> tuple[str, ...]:
    """Return the variables of all widths, each once, in order of appearance."""
    return tuple(dict.fromkeys(name for width in widths for name in width.variables))


class WidthBuilder:
    """Turns axes into widths and collects the variables and tables that they need.

    Attributes:
        options: Variable -> its number of options.
        tables: Tables that tie the variable of a concatenation to those of its parts.
    """

    def __init__(self, net: Network) -> None:
        self._batch = net.axis_map.batch
        sizes = {size_variable(name): len(dim.options()) for name, dim in net.dims.items()}
        self.options = sizes | {keep_variable(name): 2 for name in net.blocks}
        self.tables: list[Table] = []
        self._dims = {net.atoms[name]: dim for name, dim in net.dims.items()}
        self._places = {atom: place for place, atom in enumerate(self._dims, 1)}
        self._sums: dict[tuple[_Key, ...], Width] = {}

    def add_network(self) -> tuple[str]:
        """Return the scope of what is the same in all structures: a variable of one option."""
        self.options[_NETWORK] = 1
        return (_NETWORK,)

    def multiply(self, axes: Iterable[Axis], batch: int = 1) -> Width:
        """Return the product of the widths of axes, the batch being so many images."""
        return reduce(
            lambda a, b: a.combine(b, np.multiply),
            (self.width(axis, batch) for axis in axes),
            Width((), np.array(1)),
        )

    def width(self, axis: Axis, batch: int = 1) -> Width:
        """Return the width of an axis; that of a concatenation may be a variable of its own."""
        axis = resolve_axis(axis)
        if self._dims.keys().isdisjoint(atoms_of(axis)):
            return Width((), np.array(axis_size(axis, {self._batch: batch})))
        if isinstance(axis, Atom):
            dim = self._dims[axis]
            return Width((size_variable(dim.name),), np.array(dim.options()))
        if isinstance(axis, Product):
            return self.multiply(factors_of(axis), batch)
        return self._concatenate(axis)

    def _concatenate(self, axis: Sum) -> Width:
        """Add parts one by one, beginning with the longest known concatenation of some of them.

        DenseNet's layers read ever longer concatenations: each is the one before and one part more.
        """
        free = [p for p in parts_of(axis) if not self._dims.keys().isdisjoint(atoms_of(p))]
        keys = [self._key(part) for part in free]
        parts, rest = dict(zip(keys, free)), Counter(keys)
        constant = axis.size - sum(part.size for part in free)
        longest_first = sorted(self._sums, key=len, reverse=True)
        known = next((own for own in longest_first if Counter(own) <= rest), ())
        total = self._sums.get(known, Width((), np.array(0)))
        for key in sorted((rest - Counter(known)).elements()):
            known = tuple(sorted((*known, key)))
            total = self._add(known, total, self.width(parts[key]))
        return Width(total.variables, total.values + constant)

    def _add(self, keys: tuple[_Key, ...], left: Width, right: Width) -> Width:
        """Return the width of the concatenation with these keys, left and right side by side."""
        if len(keys) == 1:
            return right
        if keys in self._sums:
            return self._sums[keys]
        both = left.combine(right, np.add)
        if set(left.variables) & set(right.variables) and both.values.size <= _JOINT:
            self._sums[keys] = both
            return both
        sizes = np.unique(both.values)
        name = sum_variable(len(self._sums))
        self.options[name] = len(sizes)
        admitted = np.where(both.values[..., None] == sizes, 0.0, -np.inf)
        self.tables.append(Table(name, (*both.variables, name), admitted, {}))
        self._sums[keys] = Width((name,), sizes)
        return self._sums[keys]

    def _key(self, part: Axis) -> _Key:
        """Describe a part, equal only where its width is the same function of the Dims.

        The polynomial tells parts apart; what stands before it orders them: by the number of atoms
        from the first Dim on, the places of those Dims in the network, and the uncut size.
        """
        places = tuple(dropwhile(not_, (self._places.get(atom, 0) for atom in atoms_of(part))))
        polynomial = tuple(sorted(_expand(part, self._dims).items()))
        return len(places), places, part.size, polynomial


def _expand(axis: Axis, dims: Mapping[Atom, Dim]) -> _Polynomial:
    """Return a width as a polynomial: the Dims of every monomial, sorted -> its coefficient."""
    if isinstance(axis, Atom):
        return Counter({(dims[axis].name,): 1} if axis in dims else {(): axis.size})
    if isinstance(axis, Sum):
        return sum((_expand(part, dims) for part in parts_of(axis)), Counter())
    result: _Polynomial = Counter({(): 1})
    for factor in factors_of(axis):
        terms = product(result.items(), _expand(factor, dims).items())
        result = Counter()
        for (left, times), (right, others) in terms:
            result[tuple(sorted(left + right))] += times * others
    return result
