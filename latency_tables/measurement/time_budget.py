"""How long the next probe may be timed, so that a table takes about as long as it should."""

import numpy as np

from ..regression import Reading

# Of a repeat, with its build and its profile, on average; and of its timing.
REPEAT_S = 4.5
SHORTEST_S, LONGEST_S = 0.9, 2.5


class TimeBudget:
    """Shares a table's time among its probes: what quiet ones leave over goes to the others.

    A repeat of a probe takes ``each_s`` on average: it is built, timed, a reference run as long,
    and profiled. Of ``repeats`` to come, each may be timed from ``shortest_s`` to ``longest_s``.
    """

    def __init__(self, each_s: float, shortest_s: float, longest_s: float, repeats: int) -> None:
        self._each_s = each_s
        self._shortest_s, self._longest_s = shortest_s, longest_s
        self._remaining, self._saved_s = repeats, 0.0
        self._extra_s: list[float] = []

    @property
    def seconds(self) -> float:
        """How long the next probe may be timed (``Limits.seconds``)."""
        extra_s = float(np.median(self._extra_s)) if self._extra_s else 0.0
        share = self._each_s + self._saved_s / max(self._remaining, 1) - extra_s
        return float(np.clip(share / 2, self._shortest_s, self._longest_s))

    def spend(self, seconds: float, reading: Reading) -> None:
        """Book the last probe, which was built, warmed up and profiled besides its runs."""
        self._remaining -= 1
        self._saved_s += self._each_s - seconds
        self._extra_s.append(seconds - 2e-3 * reading.runs * reading.latency_ms)
