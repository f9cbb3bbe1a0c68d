"""A measurement is planned, resumable, honest about disturbance, and right by a known formula."""

from __future__ import annotations

import itertools
import json
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import latency_tables
from latency_tables import DamagedTableError, DeviceMismatchError, LatencyError, LatencyTable
from latency_tables.regression import Journal, journal_path

from ..fakes import DEVICE, OVERHEAD_MS, FakeEngine, FakeSource, other_device, spec, stairs


def measure(path=None, **more):
    source, engine = FakeSource(), FakeEngine()
    return latency_tables.measure(source, engine, probes=30, path=path, **more)


def test_cells_add_up_to_the_end_to_end_time():
    table = measure()
    for index, reading in enumerate(table.readings):
        cells = sum(s.latency_ms for s in table.samples if s.reading == index)
        assert cells + table.overhead_ms == pytest.approx(reading.latency_ms)
    assert table.overhead_ms == pytest.approx(OVERHEAD_MS)


def test_unseen_structures_are_predicted_as_the_formula_says():
    table, random = measure(), np.random.default_rng(1)
    for _ in range(20):
        widths = random.choice(range(8, 97, 8), size=5)
        cells = [(spec(i // 2), (widths[i], widths[i + 1])) for i in range(4)]
        truth = sum(stairs(sizes) + OVERHEAD_MS for _, sizes in cells) + OVERHEAD_MS
        assert table.predict_total(cells) == pytest.approx(truth, rel=0.02)
    assert table.error is not None and table.error.worst < 0.03 and table.error.probes > 15


def test_every_cell_of_every_probe_is_sampled():
    table, source = measure(), FakeSource()
    assert len(table.readings) == 30
    assert len(table.samples) == 30 * len(source.cells())
    assert set(table.specs) == {cell.spec for cell in source.cells()}


def test_an_interrupted_measurement_continues_and_ends_alike(tmp_path):
    whole = measure()
    engine, source, done = FakeEngine(), FakeSource(), []

    def stop(progress):
        done.append(progress.done)
        if len(done) == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        latency_tables.measure(source, engine, probes=30, path=tmp_path, progress=stop)
    with journal_path(tmp_path).open("a") as file:
        file.write('{"half a li')  # as a killed process leaves it
    again = FakeSource()
    table = latency_tables.measure(again, engine, probes=30, path=tmp_path)
    cut = [s for s in source.probes + again.probes if s]  # the uncut network is the sentinel
    assert len([s for s in source.probes if s]) == 12 - 1
    assert all(cut.count(s) == 2 for s in cut) and len(cut) == 2 * (30 - 1)
    assert engine.built == 2 * 2 * 30  # each twice, and a sentinel with it
    assert [r.sizes for r in table.readings] == [r.sizes for r in whole.readings]
    assert [s.latency_ms for s in table.samples] == pytest.approx(
        [s.latency_ms for s in whole.samples]
    )
    assert not journal_path(tmp_path).exists()


@pytest.mark.parametrize("replaced", range(8))
def test_sigkill_at_any_point_leaves_what_was_measured(tmp_path, replaced):
    """Killed at its n-th move of a file into place: of the journal, of the table, of the library's
    table. Only a measurement that is whole leaves before that."""
    script = textwrap.dedent(
        f"""
        import os, signal
        import latency_tables
        from tests.latency_tables.fakes import FakeEngine, FakeSource
        moves, move = [], os.replace
        def killing(*names):
            if len(moves) == {replaced}:
                os.kill(os.getpid(), signal.SIGKILL)
            moves.append(names)
            move(*names)
        os.replace = killing
        latency_tables.measure(
            FakeSource(), FakeEngine(), probes=7, path={str(tmp_path / "run")!r},
            library={str(tmp_path / "library")!r},
        )
        """
    )
    done = _killed(script)
    assert done == (-signal.SIGKILL if replaced < 7 else 0)
    source = FakeSource()
    table = latency_tables.measure(
        source, FakeEngine(), probes=7, path=tmp_path / "run", library=tmp_path / "library"
    )
    assert len(table.readings) == 7
    assert len([s for s in source.probes if s]) == (0 if replaced else 2 * 6)
    assert LatencyTable.load(tmp_path / "run").readings == table.readings
    # At most the half-written file of the killed process is left besides, hidden.
    left = {path.name for path in (tmp_path / "run").iterdir() if path.name[0] != "."}
    assert left == {"latency.json", "latency.parquet"}


def _killed(script):
    root = Path(__file__).parents[3]
    return subprocess.run([sys.executable, "-c", script], cwd=root, check=False).returncode


def test_a_tables_seconds_are_those_of_all_calls(tmp_path):
    def stop(progress):
        if progress.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        latency_tables.measure(FakeSource(), FakeEngine(), probes=7, path=tmp_path, progress=stop)
    header, *rows = journal_path(tmp_path).read_text().splitlines()
    own = [json.loads(row) for row in rows]
    assert all(row.pop("seal") for row in own)  # without one, a row is of an older journal
    longer = [json.dumps({**row, "seconds": 100.0}) for row in own]
    journal_path(tmp_path).write_text("\n".join([header, *longer]) + "\n")
    table = latency_tables.measure(FakeSource(), FakeEngine(), probes=7, path=tmp_path)
    assert 500 <= table.provenance["seconds"] < 600


def test_sigkill_between_probes_leaves_what_was_measured(tmp_path):
    script = textwrap.dedent(
        f"""
        import os, signal
        import latency_tables
        from tests.latency_tables.fakes import FakeEngine, FakeSource
        def stop(progress):
            if progress.done == 5:
                os.kill(os.getpid(), signal.SIGKILL)
        latency_tables.measure(
            FakeSource(), FakeEngine(), probes=30, path={str(tmp_path)!r}, progress=stop
        )
        """
    )
    assert _killed(script) == -signal.SIGKILL
    assert len(Journal(tmp_path, DEVICE).readings) == 5
    source = FakeSource()
    latency_tables.measure(source, FakeEngine(), probes=30, path=tmp_path)
    assert len([s for s in source.probes if s]) == 25 + 29


def test_a_spell_in_which_the_ratio_to_the_uncut_network_is_another_is_halved():
    """Visits are a pass apart: of what slows small networks only, a probe meets the half."""
    now = {"slow": 1.0, "visits": 0}

    def latency(sizes):
        return stairs(sizes) * (now["slow"] if sizes != (96, 96) else 1.0)

    def turn(progress):
        now["visits"] += 1
        now["slow"] = 1.2 if 10 <= now["visits"] < 30 else 1.0

    met = latency_tables.measure(FakeSource(), FakeEngine(latency=latency), probes=30,
                                 progress=turn)  # fmt: skip
    off = [m.latency_ms / r.latency_ms - 1
           for m, r in zip(met.readings, measure().readings)]  # fmt: skip
    assert max(off) < 0.11 and np.mean(np.array(off) > 0.05) > 0.5


def test_a_finished_table_is_not_measured_again(tmp_path):
    first, engine = measure(tmp_path), FakeEngine()
    table = latency_tables.measure(FakeSource(), engine, probes=30, path=tmp_path)
    assert engine.built == 0
    assert table.readings == first.readings


def test_a_table_grows_by_more_probes_and_by_a_second_network(tmp_path):
    measure(tmp_path)
    engine = FakeEngine()
    table = latency_tables.measure(FakeSource(), engine, probes=35, path=tmp_path)
    assert len(table.readings) < 30 + 35 and engine.built < 35
    wide = FakeSource(name="wide", widest=128)
    table = latency_tables.measure(wide, engine, probes=10, path=tmp_path)
    assert len({reading.network for reading in table.readings}) == 2
    assert LatencyTable.load(tmp_path).readings == table.readings


def test_another_device_is_refused(tmp_path):
    measure(tmp_path)
    with pytest.raises(DeviceMismatchError, match="processor is 'Fake CPU', not 'Another CPU'"):
        latency_tables.measure(FakeSource(), FakeEngine(device=other_device()), path=tmp_path)


def test_a_journal_of_another_device_is_refused(tmp_path):
    Journal(tmp_path, DEVICE)
    with pytest.raises(DeviceMismatchError, match="journal"):
        latency_tables.measure(FakeSource(), FakeEngine(device=other_device()), path=tmp_path)


def test_a_damaged_journal_is_named(tmp_path):
    journal_path(tmp_path).write_text("nonsense\n")
    with pytest.raises(DamagedTableError, match="latency.journal"):
        latency_tables.measure(FakeSource(), FakeEngine(), path=tmp_path)


def test_drift_is_taken_out():
    slow = itertools.count()
    engine = FakeEngine(speed=lambda: 1.0 + 0.03 * np.sin(next(slow) / 700))
    table = latency_tables.measure(FakeSource(), engine, probes=30)
    assert table.error is not None and table.error.worst < 0.03


def test_a_spell_of_another_speed_is_measured_again_or_noted():
    calls = itertools.count()
    engine = FakeEngine(speed=lambda: 2.0 if 200 < next(calls) < 800 else 1.0)
    table = latency_tables.measure(FakeSource(), engine, probes=30)
    assert any(reading.attempt for reading in table.readings)
    always = itertools.count()
    engine = FakeEngine(speed=lambda: 1.0 + 0.5 * ((next(always) // 97) % 2))
    table = latency_tables.measure(FakeSource(), engine, probes=30)
    assert any(re.search(r"disturbed .* off by up to [2-9]\d%", note) for note in table.notes)


def test_progress_counts_up_to_all_visits():
    seen = []
    measure(progress=seen.append)
    assert [p.done for p in seen] == list(range(1, 61)) and seen[-1].total == 60
    assert seen[-1].seconds_left == 0


def test_no_probes_is_an_error():
    with pytest.raises(LatencyError, match="probes is 0"):
        latency_tables.measure(FakeSource(), FakeEngine(), probes=0)


def test_dropped_cells_are_not_in_the_reading():
    reading = latency_tables.measure_structure(FakeSource(), FakeEngine(), {}, ("c1",))
    assert [cell.cell for cell in reading.cells] == ["c0", "c2", "c3"]
    assert reading.dropped == ("c1",)
