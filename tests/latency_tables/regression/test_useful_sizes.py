"""Sizes worth choosing are the tops of the device's steps."""

from __future__ import annotations

import numpy as np
import pytest

import latency_tables
from latency_tables import find_useful_sizes

from ..fakes import FakeEngine, FakeSource


def tiled(tile):
    return lambda sizes: 0.05 + 1e-4 * float(np.prod(np.ceil(np.array(sizes) / tile) * tile))


@pytest.mark.parametrize("tile", [8, 16, 32])
def test_the_steps_of_the_device_are_the_options(tile):
    source = FakeSource()
    table = latency_tables.measure(source, FakeEngine(latency=tiled(tile)), probes=40, quick=True)
    for options in find_useful_sizes(table, source).values():
        assert options == tuple(range(tile, 97, tile))


def test_a_misaligned_size_that_costs_more_than_a_larger_one_is_no_option():
    source = FakeSource()
    slow = FakeEngine(
        latency=lambda s: tiled(8)(s) * float(np.prod([1.4 if w % 16 else 1 for w in s]))
    )
    table = latency_tables.measure(source, slow, probes=80, quick=True)
    for options in find_useful_sizes(table, source).values():
        # Nothing is as fast as 8, but 24 is slower than 32, 40 than 48, and so on.
        assert set(options) - {8} == {16, 32, 48, 64, 80, 96}
