"""A probe's repeats: it is measured several times, minutes apart, and these are averaged."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ..regression import DRIFTED, Reading, average_readings

_BUSY = 0.3  # share of runs that something else may disturb
_UNSURE = 0.03  # half width of the median's interval, relative


class Repeats:
    """What was measured of the probes of a network (and of others, which stay as they are).

    A machine's neighbours slow small and large networks by different factors, for minutes at a
    time: timing a probe for longer does not take that out, coming back to it does.
    Of a probe, ``passes`` repeats count: the least disturbed ones, where there are more.
    """

    def __init__(self, network: str, passes: int, readings: Iterable[Reading] = ()) -> None:
        self._network, self._passes = network, passes
        self._by_key: dict[str, list[Reading]] = {}
        for reading in readings:
            self.add(reading)

    def add(self, reading: Reading) -> None:
        """Add a repeat."""
        self._by_key.setdefault(reading.key, []).append(reading)

    def count(self, key: str) -> int:
        """Count a structure's repeats."""
        return len(self._by_key.get(key, ()))

    def has_retry(self, key: str) -> bool:
        """Tell whether a structure was measured once more because of a disturbance."""
        return any(reading.attempt for reading in self._by_key.get(key, ()))

    def average(self) -> tuple[Reading, ...]:
        """Average the repeats that count: one reading a structure, in the order of the first."""
        usual = self._usual_ms()
        return tuple(
            replace(
                average_readings(kept),
                attempt=max(reading.attempt for reading in kept),
                measured_at=kept[0].measured_at,
            )
            for kept in (self._select(own, usual) for own in self._by_key.values())
        )

    def find_suspects(self) -> list[Reading]:
        """Find repeats that count although disturbed or at another speed, the worst first."""
        usual = self._usual_ms()
        kept = [r for own in self._by_key.values() for r in self._select(own, usual)]
        found = [r for r in kept if r.network == self._network and _rate_badness(r, usual) > 1]
        return sorted(found, key=lambda r: _rate_badness(r, usual), reverse=True)

    def drift(self, reading: Reading) -> float:
        """Compute how far from its usual speed the machine was on a repeat: relative, positive."""
        return reading.drift(self._usual_ms())

    def _select(self, own: list[Reading], usual_ms: float) -> list[Reading]:
        """Select the repeats that count, in the order in which they were taken."""
        if own[0].network != self._network:
            return own
        order = sorted(range(len(own)), key=lambda i: _rate_badness(own[i], usual_ms))
        return [own[i] for i in sorted(order[: self._passes])]

    def _usual_ms(self) -> float:
        every = (reading for own in self._by_key.values() for reading in own)
        own = [r.reference_ms for r in every if r.network == self._network]
        return float(np.median(own)) if own else 1.0


def _rate_badness(reading: Reading, usual_ms: float) -> float:
    """Rate a repeat; above 1 it is worth another one."""
    unsure = reading.interval_ms / reading.latency_ms / _UNSURE
    return max(reading.drift(usual_ms) / DRIFTED, reading.disturbed / _BUSY, unsure)
