"""Tensor axes as sums of products of atoms, refined as a graph is read.

An axis is described by an expression: an :class:`Atom` (so many indices, in order), a
:class:`Product` (row-major: the last factor runs fastest), or a :class:`Sum` (a concatenation).
Two axes that must agree are *unified*; where one of them shows more structure (a
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


Axis: TypeAlias = Atom | Sum | Product
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


def remove_atom(axis: Axis, atom: Atom) -> Axis:
    """Return an axis as it is where an (unbound) atom has one index."""
    known = resolve_axis(axis)
    if isinstance(known, Atom):
        return UNIT if known is atom else known
    if isinstance(known, Sum):
        return concatenate([remove_atom(part, atom) for part in known.parts])
    return multiply([remove_atom(factor, atom) for factor in known.factors])


def freeze_axes(axes: Iterable[Axis], reason: str) -> None:
    """Forbid to cut any index of axes; the first reason given for an atom stays."""
    for axis in axes:
        for atom in atoms_of(axis):
            atom.reason = atom.reason or reason


def is_free(axis: Axis) -> bool:
    """Return whether some index of an axis may still be cut."""
    return any(atom.reason is None for atom in atoms_of(axis))


def split_product(axis: Axis, left: int) -> tuple[Axis, Axis] | None:
    """Split ``axis = L * R`` with ``L.size == left``, refining atoms; None where it cannot be."""
    axis = resolve_axis(axis)
    if left < 1 or axis.size % left:
        return None
    if left == 1:
        return UNIT, axis
    if left == axis.size:
        return axis, UNIT
    if isinstance(axis, Atom):
        first, second = Atom(left, axis.reason), Atom(axis.size // left, axis.reason)
        bind_atom(axis, Product((first, second)))
        return first, second
    if isinstance(axis, Product):
        done, needed = [], left
        for i, factor in enumerate(axis.factors):
            if needed % factor.size == 0:
                done.append(factor)
                needed //= factor.size
                if needed == 1:
                    return multiply(done), multiply(axis.factors[i + 1 :])
                continue
            pieces = split_product(factor, needed)
            if pieces is None:
                return None
            return multiply([*done, pieces[0]]), multiply([pieces[1], *axis.factors[i + 1 :]])
        return None
    right = axis.size // left
    lefts: list[Axis] = []
    common: Axis | None = None
    run: list[Axis] = []
    for part in axis.parts:  # a run of parts may be one index of the left factor: 1 * (a + b)
        run.append(part)
        together = concatenate(run)
        if together.size % right:
            continue
        whole = together.size == right
        if len(run) > 1 and not whole:
            return None
        pieces = (UNIT, together) if whole else split_product(together, together.size // right)
        if pieces is None:
            return None
        lefts.append(pieces[0])
        if common is not None and not unify_axes(common, pieces[1]):
            return None
        common, run = pieces[1], []
    if run:
        return None
    assert common is not None
    # a Sum in front is not canonical, but the caller wants the two factors apart
    return concatenate(lefts), resolve_axis(common)


def split_sum(axis: Axis, left: int) -> tuple[Axis, Axis] | None:
    """Split ``axis = L + R`` with ``L.size == left``, refining atoms; None where it cannot be."""
    axis = resolve_axis(axis)
    if not 0 <= left <= axis.size:
        return None
    if left == 0:
        return Sum(()), axis
    if left == axis.size:
        return axis, Sum(())
    if isinstance(axis, Atom):
        first, second = Atom(left, axis.reason), Atom(axis.size - left, axis.reason)
        bind_atom(axis, Sum((first, second)))
        return first, second
    if isinstance(axis, Product):
        rest = multiply(axis.factors[1:])
        if left % rest.size:
            return None
        pieces = split_sum(axis.factors[0], left // rest.size)
        if pieces is None:
            return None
        return multiply((pieces[0], rest)), multiply((pieces[1], rest))
    done, needed = [], left
    for i, part in enumerate(axis.parts):
        if part.size <= needed:
            done.append(part)
            needed -= part.size
            if needed == 0:
                return concatenate(done), concatenate(axis.parts[i + 1 :])
            continue
        pieces = split_sum(part, needed)
        if pieces is None:
            return None
        return concatenate([*done, pieces[0]]), concatenate([pieces[1], *axis.parts[i + 1 :]])
    return None


def unify_axes(x: Axis, y: Axis, reason: str = "its two descriptions do not fit together") -> bool:
    """Make two axes one and return True; freeze both and return False where they do not fit."""
    x, y = resolve_axis(x), resolve_axis(y)
    if x is y:
        return True
    if x.size == y.size:
        if isinstance(x, Atom):
            bind_atom(x, y)
            return True
        if isinstance(y, Atom):
            bind_atom(y, x)
            return True
        if isinstance(x, Sum) or isinstance(y, Sum):
            if _unify_sums(x, y, reason):
                return True
        elif _unify_products(x, y, reason):
            return True
    freeze_axes((x, y), reason)
    return False


def _unify_sums(x: Axis, y: Axis, reason: str) -> bool:
    """Unify two axes part by part."""
    while x.size and y.size:
        head_x, head_y = parts_of(x)[0], parts_of(y)[0]
        size = min(head_x.size, head_y.size)
        pieces_x, pieces_y = split_sum(x, size), split_sum(y, size)
        if pieces_x is None or pieces_y is None:
            return False
        if not unify_axes(pieces_x[0], pieces_y[0], reason):
            return False
        x, y = resolve_axis(pieces_x[1]), resolve_axis(pieces_y[1])
    return True


def _unify_products(x: Axis, y: Axis, reason: str) -> bool:
    """Unify two axes factor by factor."""
    while x.size > 1:
        head_x, head_y = factors_of(x)[0], factors_of(y)[0]
        size = min(head_x.size, head_y.size)
        pieces_x, pieces_y = split_product(x, size), split_product(y, size)
        if pieces_x is None or pieces_y is None:
            # a map cut into windows in two ways: what is frozen need not be told apart
            return not (is_free(x) or is_free(y))
        if not unify_axes(pieces_x[0], pieces_y[0], reason):
            return False
        x, y = resolve_axis(pieces_x[1]), resolve_axis(pieces_y[1])
    return True


def bind_atom(atom: Atom, axis: Axis) -> None:
    """Refine an atom: from now on it is an (equally large) axis."""
    if atom.reason is not None:
        freeze_axes([axis], atom.reason)
    atom.bound = axis


def merge_frozen(axes: Iterable[Axis], keep: Atom) -> list[Axis]:
    """Return the factors of several axes in order, each run of frozen ones as one new atom.

    What is frozen may then be split in another way than it was before. ``keep`` (the batch) stays.
    """
    result: list[Axis] = []
    for factor in (factor for axis in axes for factor in factors_of(axis)):
        known = resolve_axis(factor)
        if is_free(known) or any(atom is keep for atom in atoms_of(known)):
            result.append(known)
            continue
        reason = next((atom.reason for atom in atoms_of(known)), None)
        last = result[-1] if result else None
        if isinstance(last, Atom) and last.reason is not None and last is not keep:
            result[-1] = Atom(last.size * known.size, last.reason)
        elif known.size > 1:
            result.append(Atom(known.size, reason))
    return result
