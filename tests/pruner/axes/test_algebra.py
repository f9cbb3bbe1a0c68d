"""Axes: frozen once, for the first reason."""

from __future__ import annotations

from pruner.axes.algebra import Atom, freeze_axes


def test_the_first_reason_stays():
    atom = Atom(4)
    freeze_axes([atom], "first")
    freeze_axes([atom], "second")
    assert atom.reason == "first"
