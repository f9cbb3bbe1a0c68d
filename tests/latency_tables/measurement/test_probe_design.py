"""Probes fill the space of structures, the same from the same seed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import latency_tables
from latency_tables.measurement.probe_design import plan_probes

from ..fakes import FakeEngine, FakeSource


def test_the_plan_follows_from_the_seed_and_holds_the_ends():
    sizes = FakeSource().sizes()
    plan = plan_probes(sizes, 25, seed=3)
    assert plan == plan_probes(sizes, 25, seed=3) != plan_probes(sizes, 25, seed=4)
    assert plan[0].sizes == {} and set(plan[1].sizes.values()) == {8}
    assert len({tuple(sorted(p.sizes.items())) for p in plan}) == 25


def test_for_every_two_dims_some_probe_has_one_whole_and_the_other_small():
    sizes = {f"d{i}": tuple(range(8, 8 * (n + 1), 8)) for i, n in enumerate((4, 12, 24, 48, 120))}
    plan = plan_probes(sizes, 50, seed=0)
    for one, other in itertools.permutations(sizes, 2):
        small = sizes[other][-1] / 4
        assert any(one not in p.sizes and p.sizes.get(other, np.inf) <= small for p in plan)
    shares = [np.mean([p.sizes.get(n, o[-1]) / o[-1] for n, o in sizes.items()]) for p in plan]
    assert min(shares) < 0.15 and max(shares) == 1 and np.std(shares) > 0.15


@pytest.mark.parametrize("count", range(2, 9))
def test_of_few_structures_every_one_is_planned(count):
    options = tuple(range(8, 8 * count + 1, 8))
    assert len(plan_probes({"a": options}, 25, seed=0)) == count


def test_a_network_with_few_structures_gets_no_more_probes_than_it_has():
    plan = plan_probes({"a": (8, 16), "b": (4,)}, 25, seed=0)
    assert [dict(p.sizes) for p in plan] == [{}, {"a": 8}]


def test_some_probes_drop_blocks_and_their_cells_are_not_in_them():
    source = FakeSource(blocks=("c1", "c2"))
    plan = plan_probes(source.sizes(), 24, 0, source.blocks)
    dropping = [probe for probe in plan if probe.dropped]
    assert 4 <= len(dropping) <= 8 and not plan[0].dropped and not plan[1].dropped
    assert any(p.dropped for p in plan_probes(source.sizes(), 50, 0, ("c1",)))
    table = latency_tables.measure(source, FakeEngine(), probes=12, quick=True)
    for reading in table.readings:
        assert {cell.cell for cell in reading.cells} == {"c0", "c1", "c2", "c3"} - set(
            reading.dropped
        )
    assert any(reading.dropped for reading in table.readings)
