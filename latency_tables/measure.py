"""Measures a network in place: probes of it, timed and profiled, one after another."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .coverage import needed
from .engine import Engine
from .errors import LatencyError
from .held_out import assessed
from .library import Library
from .pace import Pace
from .plan import PlannedProbe, network_digest, plan_probes
from .probing import Bench, batch_of, now
from .reading import Reading, structure_key
from .source import ProbeSource
from .storage import Journal, finish_save, header_path, journal_path, parquet_path
from .table import LatencyTable
from .timing import Limits
from .visits import Visits

_FULL, _QUICK = 50, 18  # probes
_LIMITS = Limits(least=12)
_QUICK_LIMITS = Limits(least=8, seconds=0.5, interval=0.01)
_PASSES = 2  # visits of each probe, and builds of a structure that is checked; one if quick
# Of a visit, with its build and its profile, on average; and of its timing.
_VISIT_S = 4.5
_SHORTEST_S, _LONGEST_S = 0.9, 2.5
_RETRIES = 0.25  # at most this share of the visits is repeated


@dataclass(frozen=True)
class Progress:
    """How far a measurement is, in visits. note: what was just done, or what is the matter."""

    done: int
    total: int
    seconds_left: float
    note: str


def measure(
    source: ProbeSource,
    engine: Engine,
    *,
    probes: int | None = None,
    quick: bool = False,
    path: str | os.PathLike[str] | None = None,
    library: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
) -> LatencyTable:
    """Measures the latencies of a network's cells on this machine.

    probes
        How many probe networks to measure (default 50; 18 if quick).
    quick
        A coarse table, from fewer and shorter measurements.
    path
        A folder, or the name of a ``.parquet`` file in it. The table is written there, and until
        it is complete every visit is appended to a journal beside it: the same call continues an
        interrupted measurement. A table that is already there is grown, not measured again.
    library
        A folder of tables, one a device and setting (``Library``): what it holds of the network's
        layers, from other networks or from this one, is taken over and not measured again, and
        what is measured is added to it.
    seed
        Of the choice of probes.
    progress
        Called after every visit of a probe.

    Raises ``DeviceMismatchError`` where ``path`` holds a table of another device or setting,
    ``DamagedTableError`` where its file is damaged, ``EngineError`` where the engine refuses.
    """
    if probes is not None and probes < 1:
        raise LatencyError(f"probes is {probes}; give 1 or more")
    count = probes or (_QUICK if quick else _FULL)
    planned = plan_probes(source.sizes(), count, seed, source.removable())
    network = network_digest(source)

    dense = source.probe({})
    device = engine.device.at_batch(batch_of(dense))
    known: tuple[Reading, ...] = ()
    shared = None if library is None else Library(library)
    if shared is not None:
        known = shared.readings(device, (cell.spec for cell in source.cells()))
    table = None
    journal = None
    if path is not None:
        path = Path(path)
        finish_save(path)
        if parquet_path(path).exists() or header_path(path).exists():
            table = LatencyTable.load(path, device)
            known = _newest(known, table.readings)
    planned = needed(planned, source, [r for r in known if r.network != network])
    if path is not None:
        if (
            table is not None
            and not journal_path(path).exists()
            and not _todo(planned, network, table.readings)
        ):
            return table
        journal = Journal(path, device)

    passes = 1 if quick else _PASSES
    visits = Visits(network, passes, journal.readings if journal is not None else ())
    todo = _todo(planned, network, known)
    met = [visits.count(structure_key(network, p.sizes, p.dropped)) for p in todo]
    turns = [p for turn in range(passes) for p, count in zip(todo, met, strict=True)
             if count <= turn]  # fmt: skip
    total = passes * len(planned)
    pace = Pace(_VISIT_S, _SHORTEST_S, _LONGEST_S, len(turns))
    bench = Bench(source, engine, dense, network, builds=1)
    start, done = time.monotonic(), 0
    before_s = sum(reading.seconds for reading in journal.readings) if journal is not None else 0.0

    def visit(probe: PlannedProbe, attempt: int, left: int) -> None:
        nonlocal done
        began = time.monotonic()
        limits = _QUICK_LIMITS if quick else replace(_LIMITS, seconds=pace.seconds)
        reading = bench.read(probe.sizes, probe.dropped, limits, "fit", attempt)
        reading = replace(reading, seconds=round(time.monotonic() - began, 2))
        pace.took(reading.seconds, reading)
        visits.add(reading)
        if journal is not None:
            journal.append(reading)
        done += 1
        if progress is not None:
            each = (time.monotonic() - start) / done
            note = f"{source.name}: {reading.latency_ms:.3g} ms, {reading.runs} runs"
            progress(Progress(total - left, total, each * left, note))

    for index, probe in enumerate(turns):
        visit(probe, 0, len(turns) - index - 1)
    notes = []
    # Until no visit is suspect, or enough has been tried.
    for reading in visits.suspects()[: int(_RETRIES * total)]:
        if not visits.repeated(reading.key):
            visit(PlannedProbe(reading.sizes, reading.dropped), 1, 0)
    taken = _newest(known, visits.readings())
    left = visits.suspects()
    if left:
        probed = len({r.key for r in left})
        busy, drift = max(r.disturbed for r in left), max(map(visits.drift, left))
        notes.append(
            f"{probed} of {len(planned)} probes were disturbed (up to {busy:.0%} of their runs by "
            f"another process, the machine's speed off by up to {drift:.0%}): their times may be "
            "off"
        )
    table = LatencyTable(
        device,
        taken,
        notes=tuple(notes),
        provenance={
            "created": now(),
            "network": source.name,
            "seed": seed,
            "quick": quick,
        },
    )
    table = assessed(table, network if shared is not None else None)
    seconds = round(before_s + time.monotonic() - start, 1)
    table = replace(table, provenance={**table.provenance, "seconds": seconds})
    if shared is not None and not quick:
        shared.add(table)
    if path is not None and journal is not None:
        table.save(path)
        journal.remove()
    return table


def measure_structure(
    source: ProbeSource,
    engine: Engine,
    sizes: Mapping[str, int],
    dropped: Sequence[str] = (),
    *,
    quick: bool = False,
    builds: int | None = None,
) -> Reading:
    """Measures one structure, end to end and by cells, in turn with the uncut network.

    builds
        How often it is built and timed (default 2; 1 if quick): where memory comes to lie makes a
        difference.
    """
    limits = _QUICK_LIMITS if quick else replace(_LIMITS, seconds=_LONGEST_S)
    builds = builds or (1 if quick else _PASSES)
    bench = Bench(source, engine, source.probe({}), network_digest(source), builds)
    return bench.read(sizes, tuple(dropped), limits, "check", 0)


def _todo(
    planned: Sequence[PlannedProbe], network: str, known: Sequence[Reading]
) -> list[PlannedProbe]:
    have = {reading.key for reading in known}
    return [p for p in planned if structure_key(network, p.sizes, p.dropped) not in have]


def _newest(old: Sequence[Reading], new: Sequence[Reading]) -> tuple[Reading, ...]:
    """One reading a structure, the last one taken, in the order of the first."""
    by_key = {reading.key: reading for reading in old}
    by_key.update({reading.key: reading for reading in new})
    return tuple(by_key.values())
