"""One table serves many networks, and two devices never mix."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest

import latency_tables
from latency_tables import DeviceMismatchError, LatencyTable, Library, join_tables
from latency_tables.measurement.coverage import LEAST

from ..fakes import DEVICE, OVERHEAD_MS, FakeEngine, FakeSource, other_device, spec, stairs


def test_the_second_network_of_a_family_measures_little_and_is_predicted(tmp_path):
    latency_tables.measure(FakeSource(), FakeEngine(), probes=50, library=tmp_path)
    deeper, engine = FakeSource(name="deeper", dims=6), FakeEngine()
    # Three of its five layers are of kinds that the first network has.
    table = latency_tables.measure(deeper, engine, probes=50, library=tmp_path)
    twin = FakeSource(name="twin", widest=88)
    engine = FakeEngine()
    table = latency_tables.measure(twin, engine, probes=50, library=tmp_path)
    own = [r for r in table.readings if r.network == table.readings[-1].network]
    assert len(own) == LEAST < 50 / 3 and engine.built == 2 * 2 * LEAST
    random = np.random.default_rng(1)
    for _ in range(20):
        widths = random.choice(range(8, 89, 8), size=5)
        cells = [(spec(i // 2), (widths[i], widths[i + 1])) for i in range(4)]
        truth = sum(stairs(sizes) + OVERHEAD_MS for _, sizes in cells) + OVERHEAD_MS
        assert table.predict_total(cells, own[0].network) == pytest.approx(truth, rel=0.03)
    assert table.error is not None and table.error.probes <= LEAST


def test_the_same_network_again_is_not_measured_again(tmp_path):
    first = latency_tables.measure(FakeSource(), FakeEngine(), probes=20, library=tmp_path)
    engine = FakeEngine()
    again = latency_tables.measure(
        FakeSource(), engine, probes=20, library=tmp_path, path=tmp_path / "run"
    )
    assert engine.built == 0
    assert {r.key for r in again.readings} == {r.key for r in first.readings}
    assert LatencyTable.load(tmp_path / "run").readings == again.readings


def test_each_device_and_setting_has_a_table_of_its_own(tmp_path):
    library = Library(tmp_path)
    for device in (DEVICE, other_device(), DEVICE.at_batch(8)):
        table = latency_tables.measure(FakeSource(), FakeEngine(device=device), probes=8)
        library.add(LatencyTable(device, table.readings))
    assert len(list(library.places())) == 3
    assert len({library.place(d) for d in (DEVICE, other_device(), DEVICE.at_batch(8))}) == 3
    assert library.readings(DEVICE, [spec(7)]) == ()
    with pytest.raises(DeviceMismatchError, match="processor is 'Fake CPU', not 'Another CPU'"):
        join_tables([LatencyTable(DEVICE, ()), LatencyTable(other_device(), ())])


def test_a_quick_or_disturbed_measurement_is_no_one_elses_business(tmp_path):
    latency_tables.measure(FakeSource(), FakeEngine(), probes=6, quick=True, library=tmp_path)
    assert list(Library(tmp_path).places()) == []
    table = latency_tables.measure(FakeSource(), FakeEngine(), probes=6)
    from dataclasses import replace

    busy = replace(table, readings=tuple(replace(r, disturbed=0.9) for r in table.readings))
    Library(tmp_path).add(busy)
    assert Library(tmp_path).readings(DEVICE, table.specs) == ()


def test_the_lock_is_shared_with_earlier_versions_and_a_killed_holder_frees_it(tmp_path):
    table = latency_tables.measure(FakeSource(), FakeEngine(), probes=4)
    library = Library(tmp_path)
    lock = library.place(DEVICE) / ".lock"
    lock.parent.mkdir()
    hold = "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); "
    script = hold + "print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script, lock], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        adding = threading.Thread(target=library.add, args=(table,))
        adding.start()
        adding.join(0.5)
        assert adding.is_alive()
        holder.kill()
    adding.join(30)
    assert len(library.readings(DEVICE, table.specs)) == 4
