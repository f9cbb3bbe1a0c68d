"""A network measured in place: probes of it, timed and profiled, one after another."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..device import Device
from ..devices import BundledEngine, RemoteEngine
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
    is_whole,
    journal_path,
    parquet_path,
    structure_key,
)
from ..source import ProbeSource
from .campaign import LIMITS, PASSES, QUICK_LIMITS, Campaign, MeasureProgress, request_turns
from .coverage import select_uncovered
from .growth import STAGES, describe_growth, describe_regression, is_good
from .probe_design import PlannedProbe, plan_probes
from .probe_runner import ProbeRequest, ProbeRunner, format_now
from .remote_runner import PACE, RemoteRunner, make_runner
from .time_budget import LONGEST_S

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
    """Measure the latencies of a network's cells on a device.

    Args:
        source: The network.
        engine: Runs it, here or elsewhere (``RemoteEngine``).
        probes: How many probe networks to measure (default 50, elsewhere as many as the error
            asks for, up to that; 18 if quick).
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
    stages = _choose_stages(engine, probes, quick)
    runner = make_runner(source, engine, builds=1)
    folder = None if path is None else Path(path)
    shared = None if library is None else Library(library)
    saved, known = _load_known(source, runner.device, folder, shared)
    plans = {count: _plan_missing(source, runner.network, count, seed, known) for count in stages}
    journal = None
    if folder is not None:
        if saved is not None and not (
            journal_path(folder).exists()
            or _select_missing(next(iter(plans.values())), runner.network, saved.readings)
        ):
            return saved
        journal = Journal(folder, runner.device)
    table = _measure_stages(runner, engine, plans, known, quick, journal, progress, shared is None)
    origin = {"created": format_now(), "network": source.name, "seed": seed, "quick": quick}
    table = replace(table, provenance={**origin, **table.provenance})
    _keep(table, folder, shared if not quick else None, journal)
    if isinstance(engine, RemoteEngine):
        engine.finish(runner.network)
    return table


def write_probe_bundle(
    source: ProbeSource,
    engine: BundledEngine,
    *,
    probes: int | None = None,
    quick: bool = False,
    seed: int = 0,
) -> int:
    """Write a bundle that measures all that ``measure`` would ask for at first.

    Of the device nothing is known yet, so it is the whole plan.

    Returns:
        The number of probes.
    """
    count = _count_probes(probes, quick)
    planned = plan_probes(source.sizes(), count, seed, source.removable())
    runner = RemoteRunner(source, engine, builds=1)
    jobs = [runner.make_job(request) for request in request_turns(planned, quick)]
    engine.write(source.name, jobs, PACE, source.probe({}).batch)
    return len(planned)


def _measure_stages(
    runner: ProbeRunner,
    engine: Engine,
    plans: Mapping[int, Sequence[PlannedProbe]],
    known: Sequence[Reading],
    quick: bool,
    journal: Journal | None,
    progress: Callable[[MeasureProgress], None] | None,
    alone: bool,
) -> LatencyTable:
    """Measure the plans in turn, each holding the one before, until a table is good enough."""
    before: Sequence[Reading] = journal.readings if journal is not None else ()
    retries = not isinstance(engine, RemoteEngine) or engine.grows
    for count, planned in plans.items():
        missing = _select_missing(planned, runner.network, known)
        campaign = Campaign(
            runner, missing, len(planned), quick, journal, progress, before, retries
        )
        readings, notes = campaign.run()
        before = campaign.readings
        table = LatencyTable(runner.device, _merge_newest(known, readings), notes=notes)
        table = cross_validate(table, None if alone else runner.network)
        if any(map(is_whole, readings)):
            table = replace(table, notes=(*table.notes, describe_regression(table.error)))
        if len(plans) > 1 and (count == max(plans) or is_good(table.error)):
            table = replace(table, notes=(*table.notes, describe_growth(table, count)))
            break
    return replace(table, provenance={"seconds": campaign.seconds})


def _choose_stages(engine: Engine, probes: int | None, quick: bool) -> tuple[int, ...]:
    """Choose after how many probes the error is looked at: elsewhere several times."""
    if isinstance(engine, RemoteEngine) and engine.grows and probes is None and not quick:
        return STAGES
    return (_count_probes(probes, quick),)


def _count_probes(probes: int | None, quick: bool) -> int:
    """Return how many probes are asked for, or the usual number."""
    if probes is None:
        return _QUICK if quick else _FULL
    if probes < 1:
        raise LatencyError(f"probes is {probes}; give 1 or more")
    return probes


def _keep(
    table: LatencyTable, folder: Path | None, shared: Library | None, journal: Journal | None
) -> None:
    """Write a table to where it is wanted; its journal is then of no more use."""
    if shared is not None:
        shared.add(table)
    if folder is not None and journal is not None:
        table.save(folder)
        journal.remove()


def _plan_missing(
    source: ProbeSource, network: str, count: int, seed: int, known: Sequence[Reading]
) -> tuple[PlannedProbe, ...]:
    """Plan so many probes, without those that other networks' readings make needless."""
    planned = plan_probes(source.sizes(), count, seed, source.removable())
    return select_uncovered(planned, source, [r for r in known if r.network != network])


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
    runner = make_runner(source, engine, builds or (1 if quick else PASSES))
    request = ProbeRequest(sizes, tuple(dropped), limits, "check")
    (reading,) = runner.measure_all([request])
    return reading


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
