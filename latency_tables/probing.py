"""Reads one probe: timed in turn with the uncut network, then profiled, as often as it is built."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from contextlib import closing

import numpy as np

from .attribution import attribute
from .engine import Engine
from .reading import CellReading, Reading
from .source import Probe, ProbeSource
from .timing import Limits, mean_timing, time_in_turn
from .work import work

# A profile tells how a probe's time is shared among its kernels, which takes fewer runs than its
# total does.
PROFILE_S = 0.6


class Bench:
    """Reads probes of a network, each next to a sentinel: the uncut network.

    builds
        How often each probe is built, and a sentinel with it: where an engine's memory comes to
        lie makes a difference of a percent or two, which only another build takes out.
    """

    def __init__(
        self, source: ProbeSource, engine: Engine, dense: Probe, network: str, builds: int
    ) -> None:
        self._source, self._engine, self._dense = source, engine, dense
        self._network, self._builds = network, builds
        self._cells = source.cells()
        self._uncut = {name: options[-1] for name, options in source.sizes().items()}

    def read(
        self,
        sizes: Mapping[str, int],
        dropped: tuple[str, ...],
        limits: Limits,
        role: str,
        attempt: int,
    ) -> Reading:
        """Builds, times and profiles one structure; ``limits`` are of each build."""
        cut = {name: size for name, size in sizes.items() if size != self._uncut.get(name)}
        probe = self._source.probe(cut, dropped)
        threads = self._engine.device.threads
        specs = {cell.name: cell.spec_at(dropped) for cell in self._cells}
        weights = {cell: work(specs[cell], widths) for cell, widths in probe.sizes.items()}
        timings, sentinels, profiles = [], [], []
        for _ in range(self._builds):
            with (
                closing(self._engine.build(self._dense)) as sentinel,
                closing(self._engine.build(probe)) as session,
            ):
                both = time_in_turn(
                    {"probe": session, "sentinel": sentinel}, threads, limits, "probe"
                )
                timings.append(both["probe"])
                sentinels.append(both["sentinel"].median_ms)
                # The kernels of small networks take microseconds, which is what profilers count in.
                least = 3 * limits.least
                budget = int(1e3 * PROFILE_S / max(both["probe"].median_ms, 1e-3))
                profile = session.profile(max(limits.least, min(budget, 10 * least)))
            profiles.append(attribute(profile, probe.cell_of, threads == 1, weights))
        timing = mean_timing(timings)
        cells = []
        for cell, widths in probe.sizes.items():
            shares = [profile[cell] for profile in profiles if cell in profile]
            own = (
                float(sum(s.kernel_ms for s in shares)) / len(profiles),
                float(sum(s.spread_ms for s in shares)) / len(profiles),
                max((s.kernels for s in shares), default=0),
            )
            cells.append(CellReading(cell, specs[cell], tuple(widths), *own))
        return Reading(
            network=self._network,
            sizes=cut,
            dropped=dropped,
            role=role,
            latency_ms=timing.median_ms,
            spread_ms=timing.spread_ms,
            interval_ms=timing.interval_ms,
            runs=timing.runs,
            sentinel_ms=float(np.mean(sentinels)),
            disturbed=timing.disturbed,
            attempt=attempt,
            measured_at=now(),
            cells=tuple(cells),
        )


def batch_of(probe: Probe) -> int:
    """The first axis of the first input; 1 where there is none."""
    shape = tuple(getattr(probe.inputs[0], "shape", ())) if probe.inputs else ()
    return int(shape[0]) if shape else 1


def now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
