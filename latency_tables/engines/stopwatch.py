"""Wall time and processor time of one call: their difference tells who had the processor."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Lap:
    """One call.

    Attributes:
        wall_ms: By the clock.
        cpu_ms: The whole process's processor time; on one thread it equals ``wall_ms`` as long as
            nothing else was given the processor in between.
    """

    wall_ms: float
    cpu_ms: float

    @property
    def disturbed(self) -> bool:
        """Whether something else had the processor; for calls that compute on one thread."""
        return self.cpu_ms < 0.95 * self.wall_ms - 0.005


def time_call(call: Callable[[], Any]) -> Lap:
    """Call once and take its time."""
    cpu, start = time.process_time_ns(), time.perf_counter_ns()
    call()
    wall = time.perf_counter_ns() - start
    return Lap(wall / 1e6, (time.process_time_ns() - cpu) / 1e6)
