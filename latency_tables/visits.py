"""A probe's visits: measured several times, minutes apart, and taken together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from .reading import DRIFTED, Reading, averaged

_BUSY = 0.3  # share of runs that something else may disturb
_UNSURE = 0.03  # half width of the median's interval, relative


class Visits:
    """What was measured of the probes of a network (and of others, which stay as they are).

    A machine's neighbours slow small and large networks by different factors, for minutes at a
    time: timing a probe for longer does not take that out, coming back to it does.

    passes
        How many visits of a probe count: the least disturbed ones, where there are more.
    """

    def __init__(self, network: str, passes: int, readings: Iterable[Reading] = ()) -> None:
        self._network, self._passes = network, passes
        self._by_key: dict[str, list[Reading]] = {}
        for reading in readings:
            self.add(reading)

    def add(self, reading: Reading) -> None:
        self._by_key.setdefault(reading.key, []).append(reading)

    def count(self, key: str) -> int:
        """How often a structure was visited."""
        return len(self._by_key.get(key, ()))

    def repeated(self, key: str) -> bool:
        """Whether it was visited once more because of a disturbance."""
        return any(reading.attempt for reading in self._by_key.get(key, ()))

    def readings(self) -> tuple[Reading, ...]:
        """One reading a structure, of the visits that count, in the order of the first."""
        usual = self._usual_ms()
        return tuple(
            replace(
                averaged(kept),
                attempt=max(reading.attempt for reading in kept),
                measured_at=kept[0].measured_at,
            )
            for kept in (self._kept(own, usual) for own in self._by_key.values())
        )

    def suspects(self) -> list[Reading]:
        """Visits that count although the machine was busy or ran at another speed, the worst
        first."""
        usual = self._usual_ms()
        kept = [r for own in self._by_key.values() for r in self._kept(own, usual)]
        found = [r for r in kept if r.network == self._network and _badness(r, usual) > 1]
        return sorted(found, key=lambda r: _badness(r, usual), reverse=True)

    def drift(self, reading: Reading) -> float:
        """How far from its usual speed the machine was on a visit: relative, positive."""
        return reading.drift(self._usual_ms())

    def _kept(self, own: list[Reading], usual_ms: float) -> list[Reading]:
        if own[0].network != self._network:
            return own
        order = sorted(range(len(own)), key=lambda i: _badness(own[i], usual_ms))
        return [own[i] for i in sorted(order[: self._passes])]

    def _usual_ms(self) -> float:
        every = (reading for own in self._by_key.values() for reading in own)
        own = [r.sentinel_ms for r in every if r.network == self._network]
        return float(np.median(own)) if own else 1.0


def _badness(reading: Reading, usual_ms: float) -> float:
    """Above 1: worth another visit."""
    unsure = reading.interval_ms / reading.latency_ms / _UNSURE
    return max(reading.drift(usual_ms) / DRIFTED, reading.disturbed / _BUSY, unsure)
