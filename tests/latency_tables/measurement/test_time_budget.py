"""A table takes about as long as it should."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

import latency_tables
from latency_tables.measurement.time_budget import TimeBudget

from ..fakes import FakeEngine, FakeSource


def test_quiet_probes_leave_their_time_to_noisy_ones():
    """Probes that take what they are given, but for some that are done at once."""
    reading = latency_tables.measure(FakeSource(), FakeEngine(), probes=1).readings[0]
    besides_s, probes, each_s = 1.0, 40, 4.0

    def spent(quiet: int) -> list[float]:
        budget, given = TimeBudget(each_s, 0.5, 3.0, probes), []
        for index in range(probes):
            given.append(budget.seconds)
            timed_s = 0.1 if index < quiet else given[-1]
            runs = round(1e3 * timed_s / reading.latency_ms)
            budget.spend(2 * timed_s + besides_s, replace(reading, runs=runs))
        return given

    steady = spent(0)
    assert steady[5:-5] == pytest.approx([(each_s - besides_s) / 2] * (probes - 10), rel=0.1)
    assert sum(2 * s + besides_s for s in steady) == pytest.approx(probes * each_s, rel=0.05)
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(spent(20)[1:20]))
    assert max(spent(20)) > 1.3 * max(steady[1:]) and max(spent(39)) == 3.0
    assert set(TimeBudget(1.0, 0.5, 3.0, 10).seconds for _ in range(2)) == {0.5}
