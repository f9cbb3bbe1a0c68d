"""A measurement is planned, resumable, honest about disturbance, and right by a known formula."""

from __future__ import annotations

import itertools
import json
import re
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import latency_tables
from latency_tables import DamagedTableError, DeviceMismatchError, LatencyError, LatencyTable
from latency_tables.engines import Lap
from latency_tables.measurement.probe_design import plan_probes
from latency_tables.measurement.time_budget import TimeBudget
from latency_tables.regression import Journal, journal_path
from latency_tables.timing.clock import TURN_MS, Clock, Timing

from ..fakes import DEVICE, OVERHEAD_MS, FakeEngine, FakeSource, other_device, spec, stairs


def measured(path=None, **more):
    source, engine = FakeSource(), FakeEngine()
    return latency_tables.measure(source, engine, probes=30, path=path, **more)


def test_cells_add_up_to_the_end_to_end_time():
    table = measured()
    for index, reading in enumerate(table.readings):
        cells = sum(s.latency_ms for s in table.samples if s.reading == index)
        assert cells + table.overhead_ms == pytest.approx(reading.latency_ms)
    assert table.overhead_ms == pytest.approx(OVERHEAD_MS)


def test_unseen_structures_are_predicted_as_the_formula_says():
    table, random = measured(), np.random.default_rng(1)
    for _ in range(20):
        widths = random.choice(range(8, 97, 8), size=5)
        cells = [(spec(i // 2), (widths[i], widths[i + 1])) for i in range(4)]
        truth = sum(stairs(sizes) + OVERHEAD_MS for _, sizes in cells) + OVERHEAD_MS
        assert table.predict_total(cells) == pytest.approx(truth, rel=0.02)
    assert table.error is not None and table.error.worst < 0.03 and table.error.probes > 15


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


def test_a_network_with_few_structures_gets_no_more_probes_than_it_has():
    plan = plan_probes({"a": (8, 16), "b": (4,)}, 25, seed=0)
    assert [dict(p.sizes) for p in plan] == [{}, {"a": 8}]


def test_every_cell_of_every_probe_is_sampled():
    table, source = measured(), FakeSource()
    assert len(table.readings) == 30
    assert len(table.samples) == 30 * len(source.cells())
    assert set(table.specs) == {cell.spec for cell in source.cells()}


def test_an_interrupted_measurement_continues_and_ends_alike(tmp_path):
    whole = measured()
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
    longer = [json.dumps({**json.loads(row), "seconds": 100.0}) for row in rows]
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
           for m, r in zip(met.readings, measured().readings)]  # fmt: skip
    assert max(off) < 0.11 and np.mean(np.array(off) > 0.05) > 0.5


def test_a_finished_table_is_not_measured_again(tmp_path):
    first, engine = measured(tmp_path), FakeEngine()
    table = latency_tables.measure(FakeSource(), engine, probes=30, path=tmp_path)
    assert engine.built == 0
    assert table.readings == first.readings


def test_a_table_grows_by_more_probes_and_by_a_second_network(tmp_path):
    measured(tmp_path)
    engine = FakeEngine()
    table = latency_tables.measure(FakeSource(), engine, probes=35, path=tmp_path)
    assert len(table.readings) < 30 + 35 and engine.built < 35
    wide = FakeSource(name="wide", widest=128)
    table = latency_tables.measure(wide, engine, probes=10, path=tmp_path)
    assert len({reading.network for reading in table.readings}) == 2
    assert LatencyTable.load(tmp_path).readings == table.readings


def test_another_device_is_refused(tmp_path):
    measured(tmp_path)
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


def test_disturbed_runs_are_left_out_and_counted():
    quiet, disturbed = Lap(1.0, 1.0), Lap(3.0, 1.1)
    timing = Timing.of([quiet] * 10 + [disturbed] * 10, watch=True)
    assert (timing.median_ms, timing.runs, timing.disturbed) == (1.0, 10, 0.5)
    assert Timing.of([disturbed] * 10, watch=True).median_ms == 1.1
    assert Timing.of([disturbed] * 10, watch=False).median_ms == 3.0


def test_progress_counts_up_to_all_visits():
    seen = []
    measured(progress=seen.append)
    assert [p.done for p in seen] == list(range(1, 61)) and seen[-1].total == 60
    assert seen[-1].seconds_left == 0


def test_no_probes_is_an_error():
    with pytest.raises(LatencyError, match="probes is 0"):
        latency_tables.measure(FakeSource(), FakeEngine(), probes=0)


def test_check_measures_one_structure_and_corrects_the_table_around_it():
    table = measured()
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
        latency_tables.check(measured(), FakeSource(), FakeEngine(device=other_device()), {})


def test_a_surprising_check_is_measured_again():
    """One in which the structure alone was slow for a while, which no sentinel can tell."""
    table = measured()
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
    table = measured()
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


def test_dropped_cells_are_not_in_the_reading():
    reading = latency_tables.measure_structure(FakeSource(), FakeEngine(), {}, ("c1",))
    assert [cell.cell for cell in reading.cells] == ["c0", "c2", "c3"]
    assert reading.dropped == ("c1",)


def test_compare_times_networks_in_turn():
    source = FakeSource()
    timings = latency_tables.compare(
        FakeEngine(), {"dense": source.probe({}), "small": source.probe({"d1": 8})}, rounds=4
    )
    assert timings["dense"].median_ms > timings["small"].median_ms
    assert timings["dense"].runs >= 12


def test_a_turn_is_long_enough_to_bring_the_caches_back():
    """A short network gets more runs a turn, or it would look slower next to a large one."""
    session = FakeEngine().build(FakeSource().probe({"d1": 8}))
    clock = Clock(session, threads=1)
    clock.burst(1)
    once = clock.laps[0].wall_ms
    assert len(clock.laps) >= TURN_MS / (2 * once)
    assert sum(lap.wall_ms for lap in clock.laps) >= TURN_MS
