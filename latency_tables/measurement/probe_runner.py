"""One probe measured: timed in turn with the uncut network and profiled, at every build."""

import datetime
from collections.abc import Mapping
from contextlib import closing

import numpy as np

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


class ProbeRunner:
    """Measures probes of a network, each next to a reference run: the uncut network.

    A probe is built ``builds`` times, and a reference with it: where an engine's memory comes to
    lie makes a difference of a percent or two, which only another build takes out.
    """

    def __init__(self, source: ProbeSource, engine: Engine, builds: int) -> None:
        self._source, self._engine, self._builds = source, engine, builds
        self._dense = source.probe({})
        self.name, self.network = source.name, network_digest(source)
        self.device = engine.device.at_batch(self._dense.batch)
        self._cells = source.cells()
        self._uncut = {name: options[-1] for name, options in source.sizes().items()}

    def measure(
        self,
        sizes: Mapping[str, int],
        dropped: tuple[str, ...],
        limits: Limits,
        role: str,
        attempt: int,
    ) -> Reading:
        """Build, time and profile one structure; ``limits`` are of each build."""
        cut = {name: size for name, size in sizes.items() if size != self._uncut.get(name)}
        probe = self._source.probe(cut, dropped)
        specs = {cell.name: cell.spec_at(dropped) for cell in self._cells}
        work = {cell: estimate_work(specs[cell], widths) for cell, widths in probe.sizes.items()}
        builds = [self._build_and_time(probe, limits, work) for _ in range(self._builds)]
        timing = average_timings([own for own, _, _ in builds])
        cells = []
        for cell, widths in probe.sizes.items():
            shares = [own[cell] for _, _, own in builds if cell in own]
            times = (
                float(sum(s.kernel_ms for s in shares)) / len(builds),
                float(sum(s.spread_ms for s in shares)) / len(builds),
                max((s.kernels for s in shares), default=0),
            )
            cells.append(CellReading(cell, specs[cell], tuple(widths), *times))
        return Reading(
            self.network, cut, dropped, role, timing.median_ms, timing.spread_ms,
            timing.interval_ms, timing.runs, float(np.mean([ms for _, ms, _ in builds])),
            timing.disturbed, attempt, format_now(), tuple(cells),
        )  # fmt: skip

    def _build_and_time(
        self, probe: Probe, limits: Limits, work: Mapping[str, float]
    ) -> tuple[Timing, float, dict[str, Share]]:
        """Return a build's timing, its reference run's median, and its cells' shares."""
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
        return both["probe"], both["reference"].median_ms, shares


def format_now() -> str:
    """Format the time in ISO 8601, to the second, in UTC."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
