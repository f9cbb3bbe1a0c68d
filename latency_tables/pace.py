"""How long the next probe may be timed, so that a table takes about as long as it should."""

from __future__ import annotations

import numpy as np

from .reading import Reading


class Pace:
    """Shares a table's time among its probes: what quiet ones leave over goes to the others.

    each_s
        Seconds a probe, on average, with its builds and profiles.
    builds
        How often a probe is built; with each build it is timed, and a sentinel as long.
    shortest_s, longest_s
        Between these, ``seconds`` is what it says.
    """

    def __init__(
        self, each_s: float, builds: int, shortest_s: float, longest_s: float, probes: int
    ) -> None:
        self._each_s, self._timings = each_s, 2 * builds
        self._shortest_s, self._longest_s = shortest_s, longest_s
        self._left, self._saved_s = probes, 0.0
        self._besides: list[float] = []

    @property
    def seconds(self) -> float:
        """How long the next probe may be timed with each build (``Limits.seconds``)."""
        besides = float(np.median(self._besides)) if self._besides else 0.0
        share = self._each_s + self._saved_s / max(self._left, 1) - besides
        return float(np.clip(share / self._timings, self._shortest_s, self._longest_s))

    def took(self, seconds: float, reading: Reading) -> None:
        """The last probe took so long; besides its runs it was built, warmed up and profiled."""
        self._left -= 1
        self._saved_s += self._each_s - seconds
        self._besides.append(seconds - 2e-3 * reading.runs * reading.latency_ms)
