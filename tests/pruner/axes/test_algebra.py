"""Axes: refinement keeps sizes and index orders, whatever is unified with whatever."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pruner.axes.algebra import (
    UNIT,
    Atom,
    Product,
    Sum,
    atoms_of,
    axis_owners,
    axis_size,
    concatenate,
    freeze_axis,
    kept_mask,
    multiply,
    owner_indices,
    resolve_axis,
    split_product,
    split_sum,
    unify_axes,
)


def labels(axis, values):
    """[axis.size] tuples: which index of which atom every position is, by plain recursion."""
    axis = resolve_axis(axis)
    if isinstance(axis, Atom):
        return [((id(axis), i),) for i in range(axis.size)]
    if isinstance(axis, Sum):
        return [label for part in axis.parts for label in labels(part, values)]
    result = [()]
    for factor in axis.factors:
        result = [left + right for left in result for right in labels(factor, values)]
    return result


@st.composite
def expressions(draw, total=None, depth=2):
    """A random axis, optionally of a given size."""
    total = total or draw(st.sampled_from([4, 6, 8, 12, 24]))
    kind = draw(st.sampled_from(["atom", "sum", "product"])) if depth and total > 3 else "atom"
    if kind == "sum":
        left = draw(st.integers(1, total - 1))
        return concatenate(
            [draw(expressions(left, depth - 1)), draw(expressions(total - left, depth - 1))]
        )
    divisors = [d for d in range(2, total) if total % d == 0]
    if kind == "product" and divisors:
        left = draw(st.sampled_from(divisors))
        return multiply(
            [draw(expressions(left, depth - 1)), draw(expressions(total // left, depth - 1))]
        )
    return UNIT if total == 1 else Atom(total)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_unified_axes_are_the_same_positions(data):
    total = data.draw(st.sampled_from([4, 6, 8, 12, 24]))
    x, y = data.draw(expressions(total)), data.draw(expressions(total))
    if unify_axes(x, y):
        assert labels(x, None) == labels(y, None)
    else:
        assert all(a.reason for a in (*atoms_of(x), *atoms_of(y)))
    assert resolve_axis(x).size == resolve_axis(y).size == total


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mask_size_and_owner_agree_with_plain_recursion(data):
    axis = data.draw(expressions())
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    keep = {atom: rng.random(atom.size) < 0.6 for atom in set(atoms_of(axis))}
    by_id = {id(atom): kept for atom, kept in keep.items()}
    expected = [all(by_id[a][i] for a, i in label) for label in labels(axis, None)]
    assert kept_mask(axis, keep).tolist() == expected
    assert axis_size(axis, {a: int(k.sum()) for a, k in keep.items()}) == sum(expected)
    for atom in keep:
        found = [next((i for a, i in label if a == id(atom)), -1) for label in labels(axis, None)]
        assert owner_indices(axis, atom).tolist() == found


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_splits_give_back_the_whole(data):
    axis = data.draw(expressions())
    left = data.draw(st.integers(0, axis.size))
    pieces = split_sum(axis, left)
    if pieces is not None:
        assert pieces[0].size == left
        assert labels(concatenate(pieces), None) == labels(axis, None)
    divisor = data.draw(st.sampled_from([d for d in range(1, axis.size + 1) if axis.size % d == 0]))
    factors = split_product(axis, divisor)
    if factors is not None:
        assert factors[0].size == divisor
        assert labels(multiply(factors), None) == labels(axis, None)


def test_an_atom_can_always_be_split():
    assert split_sum(Atom(7), 3) is not None
    assert split_product(Atom(12), 4) is not None


def test_frozen_spreads_to_what_an_atom_is_bound_to():
    x, y = Atom(8, "an output"), Product((Atom(2), Atom(4)))
    assert unify_axes(x, y)
    assert {atom.reason for atom in atoms_of(y)} == {"an output"}


def test_the_first_reason_stays():
    atom = Atom(4)
    freeze_axis(atom, "first")
    freeze_axis(atom, "second")
    assert atom.reason == "first"


def test_sizes_that_do_not_fit_freeze_both():
    x, y = Atom(8), Atom(6)
    assert not unify_axes(x, y, "why")
    assert x.reason == y.reason == "why"


def test_channel_shuffle_is_a_swap_of_factors():
    channels = Atom(12)
    pieces = split_product(channels, 3)
    shuffled = multiply([pieces[1], pieces[0]])
    kept = {a: np.array([True, False, True]) for a in [pieces[0]]}
    assert (
        kept_mask(channels, kept).reshape(3, 4).T.ravel().tolist()
        == kept_mask(shuffled, kept).tolist()
    )


def test_owners_are_those_of_every_atom():
    a, b, c = Atom(2), Atom(3), Atom(4)
    for axis in (a, multiply([a, b]), concatenate([multiply([a, c]), b, multiply([b, c]), c])):
        found = axis_owners(axis)
        assert set(found) == set(atoms_of(axis))
        assert all((found[atom] == owner_indices(axis, atom)).all() for atom in found)
