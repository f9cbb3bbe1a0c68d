"""torch itself on the CPU, operator by operator, timed by stepping through the graph."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from ..device import Device, cpu_device
from ..engine import Profile, Step
from ..errors import EngineError
from ..source import Probe
from ..stopwatch import Lap, lap

_WARM_UP = 3
_NOT_RUN = ("placeholder", "output", "get_attr")


class TorchEngine:
    """Eager torch in inference mode.

    threads
        Set for the whole process while a session runs.
    """

    name = "torch"

    def __init__(self, *, threads: int = 1, precision: str = "fp32") -> None:
        import torch

        if threads < 1:
            raise EngineError(f"threads is {threads}; give 1 or more")
        if precision not in ("fp32", "bf16"):
            raise EngineError(f"engine 'torch' runs fp32, bf16, not {precision!r}")
        self.threads, self.precision = threads, precision
        self.version: str = torch.__version__.split("+")[0]

    @property
    def device(self) -> Device:
        return cpu_device(self.name, self.version, self.threads, self.precision)

    def build(self, probe: Probe) -> TorchSession:
        return TorchSession(probe, self.threads, self.precision)


class TorchSession:
    """A copy of the network in the engine's precision."""

    def __init__(self, probe: Probe, threads: int, precision: str) -> None:
        import copy

        import torch

        if not isinstance(probe.module, torch.fx.GraphModule):
            raise EngineError("engine 'torch' profiles torch.fx graphs; this probe is none")
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        self._module: Any = copy.deepcopy(probe.module).eval().to(dtype)
        self._inputs = tuple(x.to(dtype) if x.is_floating_point() else x for x in probe.inputs)
        self._threads = threads

    def run(self) -> Lap:
        with _setting(self._threads):
            return lap(lambda: self._module(*self._inputs))

    def profile(self, runs: int) -> Profile:
        import torch

        steps, rows, laps = [], [], []

        class Stepper(torch.fx.Interpreter):
            def run_node(self, n: torch.fx.Node) -> Any:
                start = time.perf_counter_ns()
                result = super().run_node(n)
                if n.op not in _NOT_RUN:
                    times.append((n.name, (time.perf_counter_ns() - start) / 1e6))
                return result

        with _setting(self._threads):
            stepper = Stepper(self._module)
            for _ in range(_WARM_UP + runs):
                times: list[tuple[str, float]] = []
                laps.append(lap(lambda: stepper.run(*self._inputs)))
                rows.append([ms for _, ms in times])
        steps = [Step(name, (name,)) for name, _ in times]
        return Profile(steps, np.array(rows[_WARM_UP:]), laps[_WARM_UP:])

    def close(self) -> None:
        self._module = None


class _setting:
    """Inference mode and a number of threads, and back to what was before."""

    def __init__(self, threads: int) -> None:
        self._wanted = threads

    def __enter__(self) -> None:
        import torch

        self._before = torch.get_num_threads()
        torch.set_num_threads(self._wanted)
        self._mode = torch.inference_mode()
        self._mode.__enter__()

    def __exit__(self, *exception: Any) -> None:
        import torch

        self._mode.__exit__(*exception)
        torch.set_num_threads(self._before)
