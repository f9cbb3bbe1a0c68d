"""One probe measured: timed in turn with the uncut network and profiled, at every build."""

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..device import Device
from ..engines import Engine
from ..regression import CellReading, Reading
from ..source import Probe, ProbeSource, network_digest
from ..timing import (
    Limits,
    Share,
    Timing,
    attribute_profile,
    average_timings,
    estimate_work,
    time_in_turn,
)

# A profile tells how a probe's time is shared among its kernels, which takes fewer runs than its
# total does.
PROFILE_S = 0.6


@dataclass(frozen=True)
class ProbeRequest:
    """A structure to be measured once.

    Attributes:
        sizes: The Dims that are cut; others are whole.
        dropped: The blocks that are dropped.
        limits: Of timing it, at each build.
        role: ``Reading.role``.
        attempt: ``Reading.attempt``.
        repeat: Which repeat of the structure it is.
        paced: Whether its time is its share of the table's, rather than ``limits.seconds``.
    """

    sizes: Mapping[str, int]
    dropped: tuple[str, ...]
    limits: Limits
    role: str
    attempt: int = 0
    repeat: int = 0
    paced: bool = False


class ProbeRunner(Protocol):
    """Measures probes of a network, here or elsewhere.

    Attributes:
        name: The network's.
        network: Its digest.
        device: What it is measured on, at the network's batch.
    """

    name: str
    network: str

    @property
    def device(self) -> Device:
        """The device and setting."""

    def measure_all(self, requests: Iterable[ProbeRequest]) -> Iterator[Reading]:
        """Measure structures; yield readings as they come."""


@dataclass(frozen=True)
class Build:
    """One build of a probe as timed: its timing, its reference run's median, its cells' shares."""

    timing: Timing
    reference_ms: float
    shares: Mapping[str, Share]


class ReadingMaker:
    """Makes readings of a network's probes of what was timed, wherever that was."""

    def __init__(self, source: ProbeSource) -> None:
        self._source, self._cells = source, source.cells()
        self.network = network_digest(source)
        self._uncut = {name: options[-1] for name, options in source.sizes().items()}

    def cut(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """Keep the sizes of the Dims that are cut."""
        return {name: size for name, size in sizes.items() if size != self._uncut.get(name)}

    def weigh(self, probe: Probe, dropped: Sequence[str]) -> dict[str, float]:
        """Estimate the work of a probe's cells."""
        specs = {cell.name: cell.spec_at(dropped) for cell in self._cells}
        return {cell: estimate_work(specs[cell], widths) for cell, widths in probe.sizes.items()}

    def make(
        self, request: ProbeRequest, widths: Mapping[str, tuple[int, ...]], builds: Sequence[Build]
    ) -> Reading:
        """Make the reading of a request; ``widths`` are of the probe's cells."""
        specs = {cell.name: cell.spec_at(request.dropped) for cell in self._cells}
        timing = average_timings([own.timing for own in builds])
        cells = []
        for cell, own in widths.items():
            shares = [build.shares[cell] for build in builds if cell in build.shares]
            times = (
                float(sum(s.kernel_ms for s in shares)) / len(builds),
                float(sum(s.spread_ms for s in shares)) / len(builds),
                max((s.kernels for s in shares), default=0),
            )
            cells.append(CellReading(cell, specs[cell], tuple(own), *times))
        return Reading(
            self.network, self.cut(request.sizes), request.dropped, request.role,
            timing.median_ms, timing.spread_ms, timing.interval_ms, timing.runs,
            float(np.mean([build.reference_ms for build in builds])), timing.disturbed,
            request.attempt, format_now(), tuple(cells),
        )  # fmt: skip


class LocalRunner:
    """Measures probes of a network here, each next to a reference run: the uncut network.

    A probe is built ``builds`` times, and a reference with it: where an engine's memory comes to
    lie makes a difference of a percent or two, which only another build takes out.
    """

    def __init__(self, source: ProbeSource, engine: Engine, builds: int) -> None:
        self._source, self._engine, self._builds = source, engine, builds
        self._dense = source.probe({})
        self._maker = ReadingMaker(source)
        self.name, self.network = source.name, self._maker.network
        self.device = engine.device.at_batch(self._dense.batch)

    def measure_all(self, requests: Iterable[ProbeRequest]) -> Iterator[Reading]:
        """Measure structures in turn; the next request is asked for when one is done."""
        for request in requests:
            probe = self._source.probe(self._maker.cut(request.sizes), request.dropped)
            work = self._maker.weigh(probe, request.dropped)
            builds = [
                self._build_and_time(probe, request.limits, work) for _ in range(self._builds)
            ]
            yield self._maker.make(request, probe.sizes, builds)

    def _build_and_time(self, probe: Probe, limits: Limits, work: Mapping[str, float]) -> Build:
        with (
            closing(self._engine.build(self._dense)) as reference,
            closing(self._engine.build(probe)) as session,
        ):
            both = time_in_turn(
                {"probe": session, "reference": reference}, self.device.threads, limits, "probe"
            )
            # The kernels of small networks take microseconds, which is what profilers count in.
            budget = int(1e3 * PROFILE_S / max(both["probe"].median_ms, 1e-3))
            profile = session.profile(max(limits.least, min(budget, 30 * limits.least)))
        shares = attribute_profile(profile, probe.cell_of, self.device.threads == 1, work)
        return Build(both["probe"], both["reference"].median_ms, shares)


def format_now() -> str:
    """Format the time in ISO 8601, to the second, in UTC."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
