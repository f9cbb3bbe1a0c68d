"""A network measured in place: probes of it, timed and profiled, one after another."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..device import Device
from ..engines import Engine
from ..errors import LatencyError
from ..regression import (
    Journal,
    LatencyTable,
    Library,
    Reading,
    cross_validate,
    finish_save,
    header_path,
    journal_path,
    parquet_path,
    structure_key,
)
from ..source import ProbeSource
from .campaign import LIMITS, LONGEST_S, PASSES, QUICK_LIMITS, Campaign, MeasureProgress
from .coverage import select_uncovered
from .probe_design import PlannedProbe, plan_probes
from .probe_runner import ProbeRunner, format_now

_FULL, _QUICK = 50, 18  # probes


def measure(
    source: ProbeSource,
    engine: Engine,
    *,
    probes: int | None = None,
    quick: bool = False,
    path: str | os.PathLike[str] | None = None,
    library: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: Callable[[MeasureProgress], None] | None = None,
) -> LatencyTable:
    """Measure the latencies of a network's cells on this machine.

    Args:
        source: The network.
        engine: Runs it.
        probes: How many probe networks to measure (default 50; 18 if quick).
        quick: A coarse table, from fewer and shorter measurements.
        path: A folder or a ``.parquet`` file for the table. With a journal next to it, the same
            call continues an interrupted measurement; a table that is there is grown.
        library: A folder of tables (``Library``): what it holds of the network's layers, from any
            network, is taken over, and what is measured is added.
        seed: Of the choice of probes.
        progress: Called after every repeat of a probe.

    Raises:
        DeviceMismatchError: ``path`` holds a table of another device or setting.
        DamagedTableError: A table's file is damaged.
        EngineError: The engine refuses.
    """
    if probes is not None and probes < 1:
        raise LatencyError(f"probes is {probes}; give 1 or more")
    count = probes or (_QUICK if quick else _FULL)
    planned = plan_probes(source.sizes(), count, seed, source.removable())
    runner = ProbeRunner(source, engine, builds=1)
    folder = None if path is None else Path(path)
    shared = None if library is None else Library(library)
    saved, known = _load_known(source, runner.device, folder, shared)
    planned = select_uncovered(planned, source, [r for r in known if r.network != runner.network])
    journal = None
    if folder is not None:
        if saved is not None and not (
            journal_path(folder).exists()
            or _select_missing(planned, runner.network, saved.readings)
        ):
            return saved
        journal = Journal(folder, runner.device)
    missing = _select_missing(planned, runner.network, known)
    campaign = Campaign(runner, missing, len(planned), quick, journal, progress)
    readings, notes = campaign.run()
    origin = {"created": format_now(), "network": source.name, "seed": seed, "quick": quick}
    table = LatencyTable(runner.device, _merge_newest(known, readings), notes=notes)
    table = cross_validate(table, None if shared is None else runner.network)
    table = replace(table, provenance={**origin, "seconds": campaign.seconds})
    if shared is not None and not quick:
        shared.add(table)
    if folder is not None and journal is not None:
        table.save(folder)
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
    """Measure one structure, end to end and by cells, in turn with the uncut network.

    It is built and timed ``builds`` times (default 2; 1 if quick): where memory comes to lie makes
    a difference.
    """
    limits = QUICK_LIMITS if quick else replace(LIMITS, seconds=LONGEST_S)
    runner = ProbeRunner(source, engine, builds or (1 if quick else PASSES))
    return runner.measure(sizes, tuple(dropped), limits, "check", 0)


def _load_known(
    source: ProbeSource, device: Device, folder: Path | None, shared: Library | None
) -> tuple[LatencyTable | None, tuple[Reading, ...]]:
    """Load the table to be grown, and what it and the library know of the network's layers."""
    known: tuple[Reading, ...] = ()
    if shared is not None:
        known = shared.readings(device, (cell.spec for cell in source.cells()))
    if folder is None:
        return None, known
    finish_save(folder)
    if not parquet_path(folder).exists() and not header_path(folder).exists():
        return None, known
    saved = LatencyTable.load(folder, device)
    return saved, _merge_newest(known, saved.readings)


def _select_missing(
    planned: Sequence[PlannedProbe], network: str, known: Sequence[Reading]
) -> list[PlannedProbe]:
    have = {reading.key for reading in known}
    return [p for p in planned if structure_key(network, p.sizes, p.dropped) not in have]


def _merge_newest(old: Sequence[Reading], new: Sequence[Reading]) -> tuple[Reading, ...]:
    """Keep one reading a structure, the last one taken, in the order of the first."""
    return tuple({reading.key: reading for reading in (*old, *new)}.values())
