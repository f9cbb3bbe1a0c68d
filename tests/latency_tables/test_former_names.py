"""What was public keeps its name."""

from __future__ import annotations

from dataclasses import replace

import latency_tables
from latency_tables import Calibration, Context, LatencyTable, MeasureProgress, Progress

from .fakes import DEVICE, FakeEngine, FakeSource, spec


def test_former_names_of_fields_are_attributes_and_keywords():
    table = latency_tables.measure(FakeSource(), FakeEngine(), probes=2, quick=True)
    eased = replace(table, easing=0.3, contexts={"one": Context(1.1)})
    assert eased.drift_attenuation == eased.easing == 0.3
    assert eased.calibrations == eased.contexts == {"one": Calibration(1.1)}
    assert replace(eased, drift_attenuation=0.1).easing == 0.1
    assert LatencyTable(DEVICE, (), easing=0.2).drift_attenuation == 0.2
    reading = replace(table.readings[0], sentinel_ms=7.0)
    assert reading.reference_ms == reading.sentinel_ms == 7.0
    assert eased.context(FakeSource()) == table.calibration(FakeSource())
    assert table.sensitivity(spec()) == table.size_exponent(spec())
    assert spec().read_at(2) == spec().with_read_stride(2)


def test_former_names_of_the_package():
    assert Context is Calibration and Progress is MeasureProgress
    assert latency_tables.joined is latency_tables.join_tables
    assert latency_tables.worthwhile is latency_tables.find_useful_sizes
