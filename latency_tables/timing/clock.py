"""Sessions timed in turn, until the median is known well enough, with an eye on disturbance."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..engines import Lap, Runnable, flush_denormals, time_call

LEAST_QUIET = 5  # undisturbed runs that are worth more than any number of disturbed ones
PATIENCE = 4.0
# A network that has its turn finds its weights gone from the caches. It runs untimed for WARM_MS,
# and for TURN_MS at least, or small networks would look slower the shorter their turns are.
WARM_MS = 2.0
TURN_MS = 15.0
LONGEST_TURN_MS = 100.0


@dataclass(frozen=True)
class Limits:
    """When to stop timing: after so many seconds or runs, or when the median is known.

    That is when the half width of its 95% interval is below ``interval``, relative to it, after
    ``least`` runs.
    """

    least: int = 12
    most: int = 1000
    seconds: float = 1.5
    interval: float = 0.005


@dataclass(frozen=True)
class Timing:
    """Repeated runs of one network, in milliseconds.

    Attributes:
        spread_ms: Interquartile range of the runs.
        interval_ms: Half width of the median's 95% confidence interval (order statistics, no
            assumption on the distribution).
        disturbed: Share of the runs in which something else had the processor. As long as enough
            others remain, these are left out; otherwise all runs count with their processor time,
            which is what they would have taken alone, had the caches not been shared.
    """

    median_ms: float
    spread_ms: float
    interval_ms: float
    runs: int
    disturbed: float = 0.0

    @classmethod
    def of(cls, laps: Sequence[Lap], watch: bool) -> Timing:
        """Summarize runs; ``watch``: on one thread, where disturbance can be seen."""
        bad = [watch and lap.disturbed for lap in laps]
        values = np.array([lap.wall_ms for lap, b in zip(laps, bad, strict=True) if not b])
        if len(values) < LEAST_QUIET:
            values = np.array([lap.cpu_ms for lap in laps])
            if np.median(values) <= 0:  # the processor's clock is coarser than a run
                values = np.array([lap.wall_ms for lap in laps])
        values.sort()
        n = len(values)
        reach = 0.98 * np.sqrt(n)
        low = values[max(0, int(np.floor(n / 2 - reach)))]
        high = values[min(n - 1, int(np.ceil(n / 2 + reach)))]
        q1, q2, q3 = np.percentile(values, [25, 50, 75])
        return cls(float(q2), float(q3 - q1), float(high - low) / 2, n, sum(bad) / len(bad))


def average_timings(timings: Sequence[Timing]) -> Timing:
    """Average the timings of several builds of one network."""
    rows = [(t.median_ms, t.spread_ms, t.interval_ms, t.disturbed) for t in timings]
    median, spread, interval, disturbed = (float(np.mean(own)) for own in zip(*rows))
    runs = sum(t.runs for t in timings)
    return Timing(median, spread, interval / float(np.sqrt(len(timings))), runs, disturbed)


class Clock:
    """Runs a session and keeps its times."""

    def __init__(self, session: Runnable, threads: int) -> None:
        self._session = session
        self._watch = threads == 1
        self.laps: list[Lap] = []

    @property
    def usual_ms(self) -> float:
        """A run's time so far, roughly."""
        if not self.laps:
            return self._session.run().wall_ms
        return float(np.median([lap.wall_ms for lap in self.laps]))

    def burst(self, runs: int) -> None:
        """Run untimed to bring the caches back from other sessions, then ``runs`` times timed.

        At least once, and more than ``runs`` times where they take less than ``TURN_MS``.
        """
        warm = 0.0
        while warm < WARM_MS:
            warm += self._session.run().wall_ms
        spent, runs = 0.0, max(runs, 1)
        while runs > 0 or spent < TURN_MS:
            lap = self._session.run()
            self.laps.append(lap)
            spent += lap.wall_ms
            runs -= 1

    @property
    def timing(self) -> Timing:
        """All timed runs so far."""
        return Timing.of(self.laps, self._watch)


def time_in_turn(
    sessions: Mapping[str, Runnable], threads: int, limits: Limits, target: str
) -> dict[str, Timing]:
    """Time sessions in turn until that of ``target`` is known within ``limits``.

    The others, reference runs, get as much time: it is the ratio to them that is free of the
    machine's drift, and it is no surer than either. On a busy machine it waits for quiet runs, up
    to ``PATIENCE`` times as long.
    """
    clocks = {name: Clock(session, threads) for name, session in sessions.items()}
    for session in sessions.values():
        session.run()
    burst = max(1, limits.least // 3)
    start = time.perf_counter()
    while True:
        turn_ms = burst * clocks[target].usual_ms
        for clock in clocks.values():
            clock.burst(round(turn_ms / clock.usual_ms))
        timings = {name: clock.timing for name, clock in clocks.items()}
        spent = time.perf_counter() - start
        quiet = all(
            len(clock.laps) * (1 - timings[name].disturbed) >= (
                limits.least if name == target else LEAST_QUIET
            )
            for name, clock in clocks.items()
        )  # fmt: skip
        relative = [t.interval_ms / t.median_ms for t in timings.values()]
        sure = float(np.hypot.reduce(relative)) <= limits.interval
        late = spent > limits.seconds * (1 if quiet else PATIENCE)
        if quiet and sure or late or len(clocks[target].laps) >= limits.most:
            return timings
        # Grow the bursts: changing over costs an untimed run. Quiet spells are short, though, and
        # so are those in which the machine keeps its speed.
        if quiet and 2 * turn_ms <= LONGEST_TURN_MS:
            burst *= 2


def time_rounds(
    sessions: Mapping[str, Runnable], threads: int, rounds: int, runs: int
) -> dict[str, Timing]:
    """Time sessions in turn, each at least ``runs`` times in each of ``rounds``."""
    clocks = {name: Clock(session, threads) for name, session in sessions.items()}
    for session in sessions.values():
        session.run()
    for _ in range(rounds):
        for clock in clocks.values():
            clock.burst(runs)
    return {name: clock.timing for name, clock in clocks.items()}


def time_calls(
    calls: Mapping[str, Callable[[], Any]], threads: int, rounds: int = 10, runs: int = 3
) -> dict[str, Timing]:
    """Time functions in turn, as sessions are, for networks that no engine builds.

    Args:
        calls: By name, each running a network once until the result is there.
        threads: Threads that they compute on.
        rounds: How often each has its turn.
        runs: Timed runs a turn, at least.
    """
    return time_rounds({k: _TimedCall(v) for k, v in calls.items()}, threads, rounds, runs)


@dataclass(frozen=True)
class _TimedCall:
    """A function that is timed as a session is."""

    call: Callable[[], Any]

    def run(self) -> Lap:
        with flush_denormals():
            return time_call(self.call)
