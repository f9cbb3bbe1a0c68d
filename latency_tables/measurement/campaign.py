"""A measurement under way: every probe repeated in turn, disturbed ones once more."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from ..regression import Journal, Reading, structure_key
from ..timing import Limits
from .probe_design import PlannedProbe
from .probe_runner import ProbeRequest, ProbeRunner
from .repeats import Repeats
from .time_budget import LONGEST_S, REPEAT_S, SHORTEST_S, TimeBudget

LIMITS = Limits(least=12)
QUICK_LIMITS = Limits(least=8, seconds=0.5, interval=0.01)
PASSES = 2  # repeats of each probe, and builds of a structure that is checked; one if quick
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

    What was measured ``before`` of them, of which the journal may hold it, is not measured again,
    and every repeat goes to the journal; ``planned`` probes has the network, with those that are
    known. ``retries``: whether disturbed repeats can be measured once more.
    """

    def __init__(
        self,
        runner: ProbeRunner,
        missing: Sequence[PlannedProbe],
        planned: int,
        quick: bool,
        journal: Journal | None,
        progress: Callable[[MeasureProgress], None] | None,
        before: Sequence[Reading] = (),
        retries: bool = True,
    ) -> None:
        self._runner, self._planned, self._quick = runner, planned, quick
        self._journal, self._progress, self._retries = journal, progress, retries
        self._passes = passes = 1 if quick else PASSES
        self._repeats = Repeats(runner.network, passes, before)
        self.readings = list(before)
        keys = [structure_key(runner.network, p.sizes, p.dropped) for p in missing]
        counts = [self._repeats.count(key) for key in keys]
        self._turns = [
            (turn, p)
            for turn in range(passes)
            for p, count in zip(missing, counts, strict=True)
            if count <= turn
        ]
        self._total = passes * planned
        self._budget = TimeBudget(REPEAT_S, SHORTEST_S, LONGEST_S, len(self._turns))
        self._before_s = sum(reading.seconds for reading in before)
        self._start, self._done = time.monotonic(), 0

    @property
    def seconds(self) -> float:
        """What it has taken so far, with what the journal held."""
        return round(self._before_s + time.monotonic() - self._start, 1)

    def run(self) -> tuple[tuple[Reading, ...], tuple[str, ...]]:
        """Measure; return the averaged readings, and notes of what disturbed them."""
        self._measure(self._request_turns(), len(self._turns))
        # Until no repeat is suspect, or enough has been tried.
        if self._retries:
            self._measure(self._request_retries(), 0)
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

    def _request_turns(self) -> Iterator[ProbeRequest]:
        for turn, probe in self._turns:
            yield ProbeRequest(
                probe.sizes, probe.dropped, self._limits(), "fit", 0, turn, not self._quick
            )

    def _request_retries(self) -> Iterator[ProbeRequest]:
        for reading in self._repeats.find_suspects()[: int(_RETRIES * self._total)]:
            if not self._repeats.has_retry(reading.key):
                yield ProbeRequest(
                    reading.sizes, reading.dropped, self._limits(), "fit", 1, self._passes
                )

    def _limits(self) -> Limits:
        return QUICK_LIMITS if self._quick else replace(LIMITS, seconds=self._budget.seconds)

    def _measure(self, requests: Iterable[ProbeRequest], remaining: int) -> None:
        began = time.monotonic()
        for reading in self._runner.measure_all(requests):
            remaining = max(remaining - 1, 0)
            # What was measured elsewhere brings its own time.
            seconds = reading.seconds or round(time.monotonic() - began, 2)
            self._keep(replace(reading, seconds=seconds), remaining)
            began = time.monotonic()

    def _keep(self, reading: Reading, remaining: int) -> None:
        self._budget.spend(reading.seconds, reading)
        self._repeats.add(reading)
        self.readings.append(reading)
        if self._journal is not None:
            self._journal.append(reading)
        self._done += 1
        if self._progress is not None:
            left_s = (time.monotonic() - self._start) / self._done * remaining
            note = f"{self._runner.name}: {reading.latency_ms:.3g} ms, {reading.runs} runs"
            self._progress(MeasureProgress(self._total - remaining, self._total, left_s, note))


def request_turns(planned: Sequence[PlannedProbe], quick: bool) -> list[ProbeRequest]:
    """Request every repeat of every probe, as a campaign of which nothing is measured yet does."""
    limits = QUICK_LIMITS if quick else LIMITS
    return [
        ProbeRequest(probe.sizes, probe.dropped, limits, "fit", 0, turn, not quick)
        for turn in range(1 if quick else PASSES)
        for probe in planned
    ]
