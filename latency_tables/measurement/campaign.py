"""A measurement under way: every probe repeated in turn, disturbed ones once more."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..regression import Journal, Reading, structure_key
from ..timing import Limits
from .probe_design import PlannedProbe
from .probe_runner import ProbeRunner
from .repeats import Repeats
from .time_budget import TimeBudget

LIMITS = Limits(least=12)
QUICK_LIMITS = Limits(least=8, seconds=0.5, interval=0.01)
PASSES = 2  # repeats of each probe, and builds of a structure that is checked; one if quick
# Of a repeat, with its build and its profile, on average; and of its timing.
_REPEAT_S = 4.5
_SHORTEST_S, LONGEST_S = 0.9, 2.5
_RETRIES = 0.25  # at most this share of the repeats is measured once more


@dataclass(frozen=True)
class MeasureProgress:
    """How far a measurement is, in repeats of probes; ``note``: what was just done."""

    done: int
    total: int
    seconds_left: float
    note: str


class Campaign:
    """Measures the probes that are missing, in passes over all of them.

    What the journal holds of them is not measured again, and every repeat goes there; ``planned``
    probes has the network, with those that are known.
    """

    def __init__(
        self,
        runner: ProbeRunner,
        missing: Sequence[PlannedProbe],
        planned: int,
        quick: bool,
        journal: Journal | None,
        progress: Callable[[MeasureProgress], None] | None,
    ) -> None:
        self._runner, self._planned, self._quick = runner, planned, quick
        self._journal, self._progress = journal, progress
        passes = 1 if quick else PASSES
        before = journal.readings if journal is not None else []
        self._repeats = Repeats(runner.network, passes, before)
        keys = [structure_key(runner.network, p.sizes, p.dropped) for p in missing]
        counts = [self._repeats.count(key) for key in keys]
        self._turns = [p for turn in range(passes) for p, count in zip(missing, counts, strict=True)
                       if count <= turn]  # fmt: skip
        self._total = passes * planned
        self._budget = TimeBudget(_REPEAT_S, _SHORTEST_S, LONGEST_S, len(self._turns))
        self._before_s = sum(reading.seconds for reading in before)
        self._start, self._done = time.monotonic(), 0

    @property
    def seconds(self) -> float:
        """What it has taken so far, with what the journal held."""
        return round(self._before_s + time.monotonic() - self._start, 1)

    def run(self) -> tuple[tuple[Reading, ...], tuple[str, ...]]:
        """Measure; return the averaged readings, and notes of what disturbed them."""
        for index, probe in enumerate(self._turns):
            self._measure(probe, 0, len(self._turns) - index - 1)
        # Until no repeat is suspect, or enough has been tried.
        for reading in self._repeats.find_suspects()[: int(_RETRIES * self._total)]:
            if not self._repeats.has_retry(reading.key):
                self._measure(PlannedProbe(reading.sizes, reading.dropped), 1, 0)
        return self._repeats.average(), self._describe_disturbance()

    def _describe_disturbance(self) -> tuple[str, ...]:
        suspects = self._repeats.find_suspects()
        if not suspects:
            return ()
        disturbed = len({r.key for r in suspects})
        busy = max(r.disturbed for r in suspects)
        drift = max(map(self._repeats.drift, suspects))
        return (
            f"{disturbed} of {self._planned} probes were disturbed (up to {busy:.0%} of their runs "
            f"by another process, the machine's speed off by up to {drift:.0%}): their times may "
            "be off",
        )

    def _measure(self, probe: PlannedProbe, attempt: int, remaining: int) -> None:
        began = time.monotonic()
        limits = QUICK_LIMITS if self._quick else replace(LIMITS, seconds=self._budget.seconds)
        reading = self._runner.measure(probe.sizes, probe.dropped, limits, "fit", attempt)
        reading = replace(reading, seconds=round(time.monotonic() - began, 2))
        self._budget.spend(reading.seconds, reading)
        self._repeats.add(reading)
        if self._journal is not None:
            self._journal.append(reading)
        self._done += 1
        if self._progress is not None:
            left_s = (time.monotonic() - self._start) / self._done * remaining
            note = f"{self._runner.name}: {reading.latency_ms:.3g} ms, {reading.runs} runs"
            self._progress(MeasureProgress(self._total - remaining, self._total, left_s, note))
