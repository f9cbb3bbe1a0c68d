"""What an engine is: it builds a probe, runs it, and says how long it and its operators took."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .device import Device
from .errors import UnknownEngineError
from .source import Probe
from .stopwatch import Lap

# Name -> (module, class). The modules import their engine's library when a class is made.
_ENGINES = {
    "onnxruntime": ("onnxruntime_engine", "OnnxRuntimeEngine"),
    "openvino": ("openvino_engine", "OpenVinoEngine"),
    "tensorrt": ("tensorrt_engine", "TensorRtEngine"),
    "torch": ("torch_engine", "TorchEngine"),
}


@dataclass(frozen=True)
class Step:
    """One thing that the engine executes.

    operators
        The traced operators that it stands for, the one that it is named after first; empty for
        steps that the engine made up, such as a change of memory layout.
    towards
        Which neighbour a made-up step serves: ``+1`` the next step of a cell, ``-1`` the one
        before.
    """

    name: str
    operators: tuple[str, ...] = ()
    towards: int = -1


@dataclass(frozen=True)
class Profile:
    """Per-step times of some runs: ``ms`` [runs, steps]; ``laps`` [runs], end to end.

    steps
        In the order of execution.
    """

    steps: Sequence[Step]
    ms: NDArray[np.float64]
    laps: Sequence[Lap]


class Session(Protocol):
    """One network, built and ready to run."""

    def run(self) -> Lap:
        """Runs once, until the result is there."""
        ...

    def profile(self, runs: int) -> Profile:
        """Runs up to this many times, after warming up, with the engine's profiler on."""
        ...

    def close(self) -> None:
        """Frees what the session holds. It cannot run afterwards."""
        ...


class Engine(Protocol):
    """A runtime in one setting (threads, precision)."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def device(self) -> Device:
        """The device and setting, at batch 1."""
        ...

    def build(self, probe: Probe) -> Session:
        """Raises ``EngineError`` where the engine refuses the network."""
        ...


def engine_names() -> tuple[str, ...]:
    """The engines that ``engine`` knows, whether or not their libraries are installed."""
    return tuple(_ENGINES)


def engine(name: str, *, threads: int = 1, precision: str = "fp32", **options: Any) -> Engine:
    """An engine by name.

    threads
        Threads that one inference may use.
    precision
        ``"fp32"``, or what else the engine can run.

    Raises ``UnknownEngineError`` for a name it does not know or a library that is missing, and
    ``EngineError`` for a setting that the engine cannot run.
    """
    if name not in _ENGINES:
        raise UnknownEngineError(f"unknown engine {name!r}; known: {', '.join(_ENGINES)}")
    module, attribute = _ENGINES[name]
    try:
        loaded = importlib.import_module(f".engines.{module}", __package__)
        made: Engine = getattr(loaded, attribute)(threads=threads, precision=precision, **options)
    except ImportError as error:
        raise UnknownEngineError(
            f"engine {name!r} needs a library that is not installed ({error}); "
            f"pip install {error.name or name}"
        ) from error
    return made
