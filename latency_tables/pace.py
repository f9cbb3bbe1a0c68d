"""How long the next probe may be timed, so that a table takes about as long as it should."""

from __future__ import annotations

import numpy as np

from .reading import Reading


class Pace:
    """Shares a table's time among its probes: what quiet ones leave over goes to the others.

    each_s
        Seconds a probe's visit, on average: it is built, timed, a sentinel as long, and profiled.
    shortest_s, longest_s
        Between these, ``seconds`` is what it says.
    """

    def __init__(self, each_s: float, shortest_s: float, longest_s: float, visits: int) -> None:
        self._each_s = each_s
        self._shortest_s, self._longest_s = shortest_s, longest_s
        self._left, self._saved_s = visits, 0.0
        self._besides: list[float] = []

    @property
    def seconds(self) -> float:
        """How long the next probe may be timed (``Limits.seconds``)."""
        besides = float(np.median(self._besides)) if self._besides else 0.0
        share = self._each_s + self._saved_s / max(self._left, 1) - besides
        return float(np.clip(share / 2, self._shortest_s, self._longest_s))

    def took(self, seconds: float, reading: Reading) -> None:
        """The last probe took so long; besides its runs it was built, warmed up and profiled."""
        self._left -= 1
        self._saved_s += self._each_s - seconds
        self._besides.append(seconds - 2e-3 * reading.runs * reading.latency_ms)
