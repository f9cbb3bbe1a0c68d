"""What an engine is: it builds a probe, runs it, and says how long it and its operators took."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..device import Device
from ..source import Probe


@dataclass(frozen=True)
class Lap:
    """One call's time by the clock, and the whole process's processor time.

    On one thread they are equal as long as nothing else was given the processor in between.
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


@dataclass(frozen=True)
class Step:
    """One thing that the engine executes.

    Attributes:
        operators: The traced operators that it stands for, the one that it is named after first;
            empty for steps that the engine made up, such as a change of memory layout.
        towards: Which neighbour a made-up step serves: ``+1`` the next step of a cell, ``-1`` the
            one before.
    """

    name: str
    operators: tuple[str, ...] = ()
    towards: int = -1


@dataclass(frozen=True)
class Profile:
    """Per-step times of some runs: ``ms`` [runs, steps], and ``laps`` [runs], end to end."""

    steps: Sequence[Step]
    ms: NDArray[np.float64]
    laps: Sequence[Lap]


class Runnable(Protocol):
    """What can be timed."""

    def run(self) -> Lap:
        """Run once, until the result is there."""


class Session(Runnable, Protocol):
    """One network, built and ready to run."""

    def profile(self, runs: int) -> Profile:
        """Run up to this many times, after warming up, with the engine's profiler on."""

    def close(self) -> None:
        """Free what the session holds. It cannot run afterwards."""


class Engine(Protocol):
    """A runtime in one setting (threads, precision)."""

    @property
    def name(self) -> str:
        """What ``engine`` finds it by."""

    @property
    def version(self) -> str:
        """Its library's version."""

    @property
    def device(self) -> Device:
        """The device and setting, at batch 1."""

    def build(self, probe: Probe) -> Session:
        """Build a network; raise ``EngineError`` where the engine refuses it."""
