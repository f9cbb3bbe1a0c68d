"""Sessions timed in turn over there: the same rules as ``latency_tables.timing.clock``."""

from __future__ import annotations

import time

import numpy as np

LEAST_QUIET = 5
PATIENCE = 4.0
WARM_US, TURN_US, LONGEST_TURN_US = 2e3, 15e3, 100e3


def time_call(call):
    """Call once; return the clock's and the processor's microseconds."""
    cpu, start = time.process_time_ns(), time.perf_counter_ns()
    call()
    wall = time.perf_counter_ns() - start
    return wall / 1e3, (time.process_time_ns() - cpu) / 1e3


class LapList:
    """Runs a session and keeps its times."""

    def __init__(self, session, watch):
        self.session, self.watch, self.laps = session, watch, []

    def usual_us(self):
        """Return a run's time so far, roughly."""
        if not self.laps:
            return self.session.run()[0]
        return float(np.median([wall for wall, _ in self.laps]))

    def burst(self, runs):
        """Run untimed to bring the caches back, then so many times, or for a while, timed."""
        warm = 0.0
        while warm < WARM_US:
            warm += self.session.run()[0]
        spent, runs = 0.0, max(runs, 1)
        while runs > 0 or spent < TURN_US:
            lap = self.session.run()
            self.laps.append(lap)
            spent += lap[0]
            runs -= 1

    def summarize(self):
        """Return the median, the half width of its 95% interval, and the count of quiet runs."""
        bad = [self.watch and cpu < 0.95 * wall - 5 for wall, cpu in self.laps]
        values = [wall for (wall, _), off in zip(self.laps, bad) if not off]
        if len(values) < LEAST_QUIET:
            values = [cpu for _, cpu in self.laps]
            if np.median(values) <= 0:  # the processor's clock is coarser than a run
                values = [wall for wall, _ in self.laps]
        values = sorted(values)
        n = len(values)
        reach = 0.98 * np.sqrt(n)
        low = values[max(0, int(np.floor(n / 2 - reach)))]
        high = values[min(n - 1, int(np.ceil(n / 2 + reach)))]
        return float(np.median(values)), float(high - low) / 2, len(bad) - sum(bad)


def time_in_turn(sessions, target, limits, watch):
    """Time sessions in turn until that of ``target`` is known within the limits."""
    lists = {name: LapList(session, watch) for name, session in sessions.items()}
    for session in sessions.values():
        session.run()
    burst = max(1, limits["least"] // 3)
    start = time.perf_counter()
    while True:
        turn_us = burst * lists[target].usual_us()
        for own in lists.values():
            own.burst(int(round(turn_us / max(own.usual_us(), 1e-3))))
        facts = {name: own.summarize() for name, own in lists.items()}
        spent = time.perf_counter() - start
        quiet = all(
            count >= (limits["least"] if name == target else LEAST_QUIET)
            for name, (_, _, count) in facts.items()
        )
        relative = [interval / max(median, 1e-3) for median, interval, _ in facts.values()]
        sure = float(np.hypot.reduce(relative)) <= limits["interval"]
        late = spent > limits["seconds"] * (1 if quiet else PATIENCE)
        if quiet and sure or late or len(lists[target].laps) >= limits["most"]:
            return lists
        if quiet and 2 * turn_us <= LONGEST_TURN_US:
            burst *= 2


def time_rounds(sessions, rounds, runs, watch):
    """Time sessions in turn, so many runs of each in each of so many rounds."""
    lists = {name: LapList(session, watch) for name, session in sessions.items()}
    for session in sessions.values():
        session.run()
    for _ in range(rounds):
        for own in lists.values():
            own.burst(runs)
    return lists


class TimeShare:
    """Shares a bundle's time among its jobs, as ``latency_tables.measurement.time_budget``."""

    def __init__(self, budget, jobs):
        self.budget, self.left, self.saved_s, self.extra_s = budget, jobs, 0.0, []

    def next_seconds(self):
        """Return how long the next probe may be timed."""
        extra_s = float(np.median(self.extra_s)) if self.extra_s else 0.0
        share = self.budget["each_s"] + self.saved_s / max(self.left, 1) - extra_s
        return float(np.clip(share / 2, self.budget["shortest_s"], self.budget["longest_s"]))

    def spend(self, seconds, timed_s):
        """Book a job, of which so much was spent on the probe's timed runs."""
        self.left -= 1
        self.saved_s += self.budget["each_s"] - seconds
        self.extra_s.append(seconds - 2 * timed_s)
