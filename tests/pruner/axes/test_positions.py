"""Masks, sizes and owners agree with plain recursion."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pruner.axes.algebra import Atom, Product, atoms_of, concatenate, multiply, split_product
from pruner.axes.positions import axis_owners, axis_size, kept_mask, owner_indices

from .expressions import expressions, labels


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


def test_owners_are_those_of_every_atom():
    a, b, c = Atom(2), Atom(3), Atom(4)
    for axis in (a, multiply([a, b]), concatenate([multiply([a, c]), b, multiply([b, c]), c])):
        found = axis_owners(axis)
        assert set(found) == set(atoms_of(axis))
        assert all((found[atom] == owner_indices(axis, atom)).all() for atom in found)


def test_channel_shuffle_is_a_swap_of_factors():
    channels = Atom(12)
    pieces = split_product(channels, 3)
    shuffled = multiply([pieces[1], pieces[0]])
    kept = {a: np.array([True, False, True]) for a in [pieces[0]]}
    assert (
        kept_mask(channels, kept).reshape(3, 4).T.ravel().tolist()
        == kept_mask(shuffled, kept).tolist()
    )


def test_a_side_that_may_not_be_cut_stands_twice_beside_channels():
    channels, side = Atom(2), Atom(3, "a window")
    owners = axis_owners(Product((channels, side, side)))
    assert owners[channels].tolist() == [0] * 9 + [1] * 9
    assert list(owners) == [channels]
