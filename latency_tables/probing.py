"""Reads one probe: timed in turn with the uncut network, then profiled, as often as it is built."""

from __future__ import annotations

import datetime
from collections.abc import Mapping

import numpy as np

from .attribution import attribute
from .engine import Engine, Session
from .reading import CellReading, Reading
from .source import Probe, ProbeSource
from .timing import Limits, mean_timing, time_in_turn
from .work import work

# A profile tells how a probe's time is shared among its kernels, which takes fewer runs than its
# total does.
PROFILE_S = 0.6


class Bench:
    """A sentinel (the uncut network) that stays built, and what reads a probe next to it.

    A structure that is checked gets a new sentinel with every build: it is to be compared with the
    network as such.

    builds
        How often each probe is built: where an engine's memory comes to lie makes a difference of
        a percent or two, which only another build takes out.
    """

    def __init__(
        self,
        source: ProbeSource,
        engine: Engine,
        dense: Probe,
        network: str,
        builds: int,
    ) -> None:
        self._source, self._engine, self._dense = source, engine, dense
        self._network, self._builds = network, builds
        self._cells = source.cells()
        self._uncut = {name: options[-1] for name, options in source.sizes().items()}
        self._sentinel: Session | None = None

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
        # All others are compared with the uncut network: it is worth knowing better.
        for _ in range(self._builds if cut or dropped else 2 * self._builds):
            if role == "check":
                self.close()
            if self._sentinel is None:
                self._sentinel = self._engine.build(self._dense)
            session = self._engine.build(probe)
            try:
                both = time_in_turn(
                    {"probe": session, "sentinel": self._sentinel}, threads, limits, "probe"
                )
                timings.append(both["probe"])
                sentinels.append(both["sentinel"].median_ms)
                # The kernels of small networks take microseconds, which is what profilers count in.
                least = 3 * limits.least
                budget = int(1e3 * PROFILE_S / max(both["probe"].median_ms, 1e-3))
                profile = session.profile(max(limits.least, min(budget, 10 * least)))
            finally:
                session.close()
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

    def close(self) -> None:
        if self._sentinel is not None:
            self._sentinel.close()
            self._sentinel = None


def batch_of(probe: Probe) -> int:
    """The first axis of the first input; 1 where there is none."""
    shape = tuple(getattr(probe.inputs[0], "shape", ())) if probe.inputs else ()
    return int(shape[0]) if shape else 1


def now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
