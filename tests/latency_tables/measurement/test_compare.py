"""Networks against each other."""

from __future__ import annotations

import latency_tables

from ..fakes import FakeEngine, FakeSource


def test_compare_times_networks_in_turn():
    source = FakeSource()
    timings = latency_tables.compare(
        FakeEngine(), {"dense": source.probe({}), "small": source.probe({"d1": 8})}, rounds=4
    )
    assert timings["dense"].median_ms > timings["small"].median_ms
    assert timings["dense"].runs >= 12
