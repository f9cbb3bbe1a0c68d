"""Axes: frozen once, for the first reason."""

from __future__ import annotations

from pruner.axes.algebra import Atom, freeze_axis


def test_the_first_reason_stays():
    atom = Atom(4)
    freeze_axis(atom, "first")
    freeze_axis(atom, "second")
    assert atom.reason == "first"
