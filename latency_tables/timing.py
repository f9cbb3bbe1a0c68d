"""Timing sessions in turn, until the median is known well enough, with an eye on disturbance."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .engine import Session


@dataclass(frozen=True)
class Limits:
    """When to stop: at ``interval`` (half width of the median's 95% interval, relative to it)
    after ``least`` runs, or after ``seconds`` or ``most`` runs."""

    least: int = 12
    most: int = 1000
    seconds: float = 1.5
    interval: float = 0.005


@dataclass(frozen=True)
class Timing:
    """Repeated runs of one network, in milliseconds.

    spread_ms
        Interquartile range of the runs.
    interval_ms
        Half width of the median's 95% confidence interval (order statistics, no assumption on
        the distribution).
    disturbed
        Share of the runs in which something else had the processor; they are left out of the
        other figures as long as enough remain.
    """

    median_ms: float
    spread_ms: float
    interval_ms: float
    runs: int
    disturbed: float = 0.0

    @classmethod
    def of(cls, ms: list[float], disturbed: list[bool] | None = None) -> Timing:
        values, bad = np.asarray(ms), np.asarray(disturbed or [False] * len(ms))
        if (~bad).sum() >= max(5, len(values) // 4):
            values = values[~bad]
        values = np.sort(values)
        n = len(values)
        reach = 0.98 * np.sqrt(n)
        low = values[max(0, int(np.floor(n / 2 - reach)))]
        high = values[min(n - 1, int(np.ceil(n / 2 + reach)))]
        q1, q2, q3 = np.percentile(values, [25, 50, 75])
        return cls(float(q2), float(q3 - q1), float(high - low) / 2, n, float(bad.mean()))


class Clock:
    """Runs a session and keeps its times, and notices when the process did not have the CPU."""

    def __init__(self, session: Session, threads: int) -> None:
        self._session = session
        self._watch = threads == 1
        self.ms: list[float] = []
        self.disturbed: list[bool] = []

    def burst(self, runs: int) -> None:
        """One run to bring the caches back from the other sessions, then ``runs`` timed ones."""
        self._session.run()
        for _ in range(runs):
            cpu = time.process_time_ns()
            elapsed = self._session.run()
            cpu = time.process_time_ns() - cpu
            self.ms.append(elapsed)
            # One thread that computes uses as much processor time as passes on the wall.
            self.disturbed.append(self._watch and cpu < 0.9e6 * elapsed)

    @property
    def timing(self) -> Timing:
        return Timing.of(self.ms, self.disturbed)


def time_in_turn(
    sessions: Mapping[str, Session], threads: int, limits: Limits, watched: str
) -> dict[str, Timing]:
    """Times sessions in turn until that of ``watched`` is known within ``limits``.

    The others, sentinels, get a quarter of its time.
    """
    clocks = {name: Clock(session, threads) for name, session in sessions.items()}
    for session in sessions.values():
        session.run()
    burst = max(1, limits.least // 3)
    start = time.perf_counter()
    while True:
        for name, clock in clocks.items():
            clock.burst(burst if name == watched else _sentinel_runs(clock, clocks[watched], burst))
        timing = clocks[watched].timing
        enough = timing.runs >= limits.least and (
            timing.interval_ms <= limits.interval * timing.median_ms
        )
        spent = time.perf_counter() - start
        if enough or spent > limits.seconds or len(clocks[watched].ms) >= limits.most:
            return {name: clock.timing for name, clock in clocks.items()}
        # Grow the bursts: changing over costs an untimed run.
        burst = min(2 * burst, 50)


def _sentinel_runs(sentinel: Clock, watched: Clock, burst: int) -> int:
    if not sentinel.ms:
        return 2
    share = float(np.median(watched.ms) / np.median(sentinel.ms))
    return max(1, min(burst, round(0.25 * burst * share)))
