"""Sessions timed in turn, with an eye on disturbance."""

from __future__ import annotations

from latency_tables.engines import Lap
from latency_tables.timing.clock import TURN_MS, Clock, Timing

from ..fakes import FakeEngine, FakeSource


def test_disturbed_runs_are_left_out_and_counted():
    quiet, disturbed = Lap(1.0, 1.0), Lap(3.0, 1.1)
    timing = Timing.of([quiet] * 10 + [disturbed] * 10, watch=True)
    assert (timing.median_ms, timing.runs, timing.disturbed) == (1.0, 10, 0.5)
    assert Timing.of([disturbed] * 10, watch=True).median_ms == 1.1
    assert Timing.of([disturbed] * 10, watch=False).median_ms == 3.0
    # The processor's clock may be coarser than a run.
    assert Timing.of([Lap(3.0, 0.0)] * 9 + [Lap(3.0, 10.0)], watch=True).median_ms == 3.0


def test_a_turn_is_long_enough_to_bring_the_caches_back():
    """A short network gets more runs a turn, or it would look slower next to a large one."""
    session = FakeEngine().build(FakeSource().probe({"d1": 8}))
    clock = Clock(session, threads=1)
    clock.burst(1)
    once = clock.laps[0].wall_ms
    assert len(clock.laps) >= TURN_MS / (2 * once)
    assert sum(lap.wall_ms for lap in clock.laps) >= TURN_MS
