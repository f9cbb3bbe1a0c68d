"""A prediction is verified on the device, and the table corrected around it."""

from __future__ import annotations

import pytest

import latency_tables
from latency_tables import DeviceMismatchError

from ..fakes import FakeEngine, FakeSource, other_device, stairs


def measure():
    return latency_tables.measure(FakeSource(), FakeEngine(), probes=30)


def test_check_measures_one_structure_and_corrects_the_table_around_it():
    table = measure()
    # A device that is slower at one width than anything the table has seen.
    engine = FakeEngine(latency=lambda s: stairs(s) * (1.3 if s[0] == 40 else 1.0))
    sizes = {f"d{i}": 40 for i in range(5)}
    first = latency_tables.check(table, FakeSource(), engine, sizes)
    assert first.measured_ms > 1.1 * first.predicted_ms and first.error > 0.1
    assert len(first.table.readings) == len(table.readings) + 1
    second = latency_tables.check(first.table, FakeSource(), engine, sizes)
    assert abs(second.error) < 0.2 * first.error
    assert len(second.table.readings) == len(first.table.readings)


def test_check_of_another_device_is_refused():
    with pytest.raises(DeviceMismatchError):
        latency_tables.check(measure(), FakeSource(), FakeEngine(device=other_device()), {})


def test_a_surprising_check_is_measured_again():
    """One in which the structure alone was slow for a while, which no sentinel can tell."""
    table = measure()
    engine = FakeEngine()

    def latency(sizes):
        slow = sizes != (96, 96) and engine.built <= 4  # twice the structure and the uncut network
        return stairs(sizes) * (1.3 if slow else 1.0)

    engine.latency = latency
    sizes = {f"d{i}": 48 for i in range(5)}
    found = latency_tables.check(table, FakeSource(), engine, sizes)
    assert engine.built == 8 and found.error == pytest.approx(0.15, abs=0.03)
    calm = FakeEngine()
    assert abs(latency_tables.check(table, FakeSource(), calm, sizes).error) < 0.01
    assert calm.built == 4


def test_a_check_on_a_machine_of_another_speed_is_measured_again():
    """Of two readings the one counts next to which the uncut network took its usual time."""
    table = measure()
    engine = FakeEngine()
    slow = iter([1.3] * 4)  # the first builds of the structure and of the uncut network

    def build(probe):
        session = FakeEngine.build(engine, probe)
        factor = next(slow, 1.0)
        session._kernels[:] = [factor * ms for ms in session._kernels]
        return session

    engine.build = build
    sizes = {f"d{i}": 48 for i in range(5)}
    found = latency_tables.check(table, FakeSource(), engine, sizes)
    assert engine.built == 8 and abs(found.error) < 0.01
    assert found.table.readings[-1].drift(table.uncut_ms(FakeSource())) < 0.01
