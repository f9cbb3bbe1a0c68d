"""What other networks tell of is not measured again."""

from __future__ import annotations

import latency_tables
from latency_tables.measurement.coverage import LEAST, select_uncovered
from latency_tables.measurement.probe_design import plan_probes

from ..fakes import FakeEngine, FakeSource


def test_layers_that_no_one_has_timed_are_measured_in_full():
    small, wide = FakeSource(widest=32), FakeSource(widest=256)
    known = latency_tables.measure(small, FakeEngine(), probes=40).readings
    planned = plan_probes(wide.sizes(), 50, 0)
    assert select_uncovered(planned, wide, ()) == planned
    kept = select_uncovered(planned, wide, known)
    assert len(kept) > 40 and kept[:LEAST] == planned[:LEAST]
