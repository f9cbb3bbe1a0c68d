"""Makes axes equal: unification of two, and the splits that refine the atoms of one."""

from __future__ import annotations

from collections.abc import Iterable

from .algebra import (
    UNIT,
    Atom,
    Axis,
    Product,
    Sum,
    atoms_of,
    concatenate,
    factors_of,
    freeze_axes,
    is_free,
    multiply,
    parts_of,
    resolve_axis,
)


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
