"""What an engine is: it builds a probe, runs it, and says how long it and its operators took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..device import Device
from ..source import Probe
from .stopwatch import Lap


@dataclass(frozen=True)
class Step:
    """One thing that the engine executes.

    Attributes:
        name: As the engine calls it.
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
    """Per-step times of some runs.

    Attributes:
        steps: In the order of execution.
        ms: Milliseconds [runs, steps].
        laps: [runs], end to end.
    """

    steps: Sequence[Step]
    ms: NDArray[np.float64]
    laps: Sequence[Lap]


class Session(Protocol):
    """One network, built and ready to run."""

    def run(self) -> Lap:
        """Run once, until the result is there."""
        ...

    def profile(self, runs: int) -> Profile:
        """Run up to this many times, after warming up, with the engine's profiler on."""
        ...

    def close(self) -> None:
        """Free what the session holds. It cannot run afterwards."""
        ...


class Engine(Protocol):
    """A runtime in one setting (threads, precision)."""

    @property
    def name(self) -> str:
        """What ``engine`` finds it by."""
        ...

    @property
    def version(self) -> str:
        """Its library's version."""
        ...

    @property
    def device(self) -> Device:
        """The device and setting, at batch 1."""
        ...

    def build(self, probe: Probe) -> Session:
        """Build a network; raise ``EngineError`` where the engine refuses it."""
        ...
