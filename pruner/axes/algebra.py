"""Tensor axes as sums of products of atoms, refined as a graph is read.

An axis is described by an expression: an :class:`Atom` (so many indices, in order), a
:class:`Product` (row-major: the last factor runs fastest), or a :class:`Sum` (a concatenation).
Two axes that must agree are *unified* (`unification`); where one of them shows more structure (a
reshape splits it, a concatenation joins it), the other's atoms are *refined*: bound to the finer
expression, everywhere at once. What is left unbound and unfrozen in the end are the network's Dims.

Canonical form, kept by :func:`resolve_axis`: no bound atom, no factor of size one, no Sum within a
Sum, no Product within a Product, no Sum as the first factor of a Product (it is distributed:
``(a + b) * c = a * c + b * c``, which is an equality of index orders, not only of sizes).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import TypeAlias


class Atom:
    """An indivisible run of indices.

    Attributes:
        size: The number of indices.
        reason: Why it may not be cut; None where it may.
        bound: The equally large expression that it was refined to; None where it was not.
    """

    __slots__ = ("bound", "reason", "size")

    def __init__(self, size: int, reason: str | None = None) -> None:
        self.size = size
        self.reason = reason
        self.bound: Axis | None = None

    def __repr__(self) -> str:
        return f"{self.size}{'!' if self.reason else ''}"


@dataclass(frozen=True, eq=False)
class Sum:
    """A concatenation of parts."""

    parts: tuple[Axis, ...]

    @property
    def size(self) -> int:
        """The number of positions."""
        return sum(part.size for part in self.parts)

    def __repr__(self) -> str:
        return f"({' + '.join(map(repr, self.parts))})"


@dataclass(frozen=True, eq=False)
class Product:
    """A row-major product of factors; the empty one is the axis of size one."""

    factors: tuple[Axis, ...]

    @property
    def size(self) -> int:
        """The number of positions."""
        return prod(factor.size for factor in self.factors)

    def __repr__(self) -> str:
        return f"({' * '.join(map(repr, self.factors))})" if self.factors else "1"


Axis: TypeAlias = "Atom | Sum | Product"
UNIT = Product(())


def resolve_axis(axis: Axis) -> Axis:
    """Return the canonical form of an axis as it is known now."""
    if isinstance(axis, Atom):
        if axis.bound is None:
            return UNIT if axis.size == 1 else axis
        axis.bound = resolve_axis(axis.bound)  # path compression
        return axis.bound
    if isinstance(axis, Sum):
        return concatenate(axis.parts)
    return multiply(axis.factors)


def concatenate(parts: tuple[Axis, ...] | list[Axis]) -> Axis:
    """Return the canonical Sum of the parts."""
    flat: list[Axis] = []
    for part in parts:
        known = resolve_axis(part)
        if known.size == 0:
            continue
        flat.extend(known.parts if isinstance(known, Sum) else (known,))
    return flat[0] if len(flat) == 1 else Sum(tuple(flat))


def multiply(factors: tuple[Axis, ...] | list[Axis]) -> Axis:
    """Return the canonical Product of the factors."""
    flat: list[Axis] = []
    for factor in factors:
        known = resolve_axis(factor)
        flat.extend(known.factors if isinstance(known, Product) else (known,))
    if len(flat) == 1:
        return flat[0]
    if flat and isinstance(flat[0], Sum):
        rest = tuple(flat[1:])
        return concatenate([multiply((part, *rest)) for part in flat[0].parts])
    return Product(tuple(flat))


def factors_of(axis: Axis) -> tuple[Axis, ...]:
    """Return the factors of an axis; of one that is no Product, itself."""
    known = resolve_axis(axis)
    return known.factors if isinstance(known, Product) else (known,)


def parts_of(axis: Axis) -> tuple[Axis, ...]:
    """Return the parts of an axis; of one that is no Sum, itself."""
    known = resolve_axis(axis)
    return known.parts if isinstance(known, Sum) else (known,)


def atoms_of(axis: Axis) -> Iterator[Atom]:
    """Yield every unbound atom of an axis, left to right, with repeats."""
    known = resolve_axis(axis)
    if isinstance(known, Atom):
        yield known
    else:
        for child in known.parts if isinstance(known, Sum) else known.factors:
            yield from atoms_of(child)


def freeze_axes(axes: Iterable[Axis], reason: str) -> None:
    """Forbid to cut any index of axes; the first reason given for an atom stays."""
    for axis in axes:
        for atom in atoms_of(axis):
            atom.reason = atom.reason or reason


def is_free(axis: Axis) -> bool:
    """Return whether some index of an axis may still be cut."""
    return any(atom.reason is None for atom in atoms_of(axis))
