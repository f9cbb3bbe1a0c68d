"""Refinement keeps sizes and index orders, whatever is unified with whatever."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pruner.axes.algebra import (
    Atom,
    Product,
    atoms_of,
    concatenate,
    freeze_axes,
    multiply,
    resolve_axis,
    split_product,
    split_sum,
    unify_axes,
)

from .expressions import expressions, labels


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


def test_sizes_that_do_not_fit_freeze_both():
    x, y = Atom(8), Atom(6)
    assert not unify_axes(x, y, "why")
    assert x.reason == y.reason == "why"


def test_the_first_reason_stays():
    atom = Atom(4)
    freeze_axes([atom], "first")
    freeze_axes([atom], "second")
    assert atom.reason == "first"
