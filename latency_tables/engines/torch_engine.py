"""torch itself on the CPU or a GPU, operator by operator."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..device import Device, describe_cpu
from ..errors import EngineError
from ..source import Probe
from .base import Lap, Profile, Step, time_call
from .cuda import TorchCuda, describe_gpu
from .denormals import flush_denormals
from .memory import KEPT, can_keep_memory, keep_memory

_WARM_UP = 3
# Queueing a network's operators one by one takes far longer than the GPU does: after so many
# profiled runs, those that were asked for are cut short at so many seconds.
_PROFILED, _PROFILE_S = 12, 0.6
# Replays of the whole network that its profiled steps are held against; the least that is left of
# a step.
_REPLAYS, _LEAST = 12, 0.1
_NOT_RUN = ("placeholder", "output", "get_attr")
_PRECISIONS = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "fp16", "bf16")}


class TorchEngine:
    """torch in inference mode.

    On the CPU, memory that is freed is kept for what comes (``keep_memory``): the process as a
    whole does so from the first session on.

    On a GPU a run is one replay of a CUDA graph (where the network can be captured), timed by
    events; images are channels-last; single operators are timed by events between them. fp32
    convolutions use TF32 where the GPU has it, as is torch's habit.

    Args:
        threads: On the CPU, set for the whole process while a session runs.
        precision: fp32 or bf16; on a GPU fp16 too.
        on: ``"cpu"``, ``"cuda"``, or ``None``: the GPU where there is one.
        compiled: Run what ``torch.compile`` makes of the network. Compilers merge operators, so
            the times of single ones are still those of the eager network, brought to the compiled
            total.
    """

    name = "torch"

    def __init__(
        self, *, threads: int = 1, precision: str = "fp32", on: str | None = None,
        compiled: bool = False,
    ) -> None:  # fmt: skip
        import torch

        if threads < 1:
            raise EngineError(f"threads is {threads}; give 1 or more")
        on = on or ("cuda" if torch.cuda.is_available() else "cpu")
        if on not in _PRECISIONS:
            raise EngineError(f"engine 'torch' runs on {', '.join(_PRECISIONS)}, not {on!r}")
        if precision not in _PRECISIONS[on]:
            known = ", ".join(_PRECISIONS[on])
            raise EngineError(f"engine 'torch' runs {known} on {on}, not {precision!r}")
        self.threads, self.precision, self.on, self.compiled = threads, precision, on, compiled
        self.version: str = torch.__version__.split("+")[0]
        self._cuda = TorchCuda() if on == "cuda" else None

    @property
    def device(self) -> Device:
        """The CPU or GPU in this setting, at batch 1."""
        options = "compiled" if self.compiled else ""
        if self._cuda is not None:
            return describe_gpu(self._cuda, self.name, self.version, self.precision, options)
        options = ", ".join(filter(None, (options, KEPT if can_keep_memory() else "")))
        return describe_cpu(self.name, self.version, self.threads, self.precision, options)

    def build(self, probe: Probe) -> TorchSession | TorchCudaSession:
        """Copy a probe to the device; raise ``EngineError`` where it is no graph or too large."""
        module, inputs = _prepare(probe, self.precision, self.on)
        if self._cuda is not None:
            return TorchCudaSession(module, inputs, self.compiled)
        keep_memory()
        return TorchSession(module, inputs, self.threads, self.compiled)


def _prepare(probe: Probe, precision: str, on: str) -> tuple[Any, tuple[Any, ...]]:
    """Copy the network and its inputs in the engine's precision to its device."""
    import copy

    import torch

    if not isinstance(probe.module, torch.fx.GraphModule):
        raise EngineError("engine 'torch' profiles torch.fx graphs; this probe is none")
    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    module: Any = copy.deepcopy(probe.module).eval().to(device=on, dtype=dtype)
    inputs = tuple(x.to(device=on, dtype=dtype if x.is_floating_point() else None)
                   for x in probe.inputs)  # fmt: skip
    if on == "cuda" and any(x.dim() == 4 for x in inputs):
        module = module.to(memory_format=torch.channels_last)
        inputs = tuple(x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
                       for x in inputs)  # fmt: skip
    return module, inputs


def _compile(module: Any, compiled: bool) -> Any:
    """Return what is timed end to end: the network, or what the compiler makes of it."""
    import torch

    if not compiled:
        return module
    # Probes differ in their widths: a graph for any shape would be one for none of them.
    torch.compiler.reset()
    return torch.compile(module, dynamic=False)


class TorchSession:
    """A copy of the network on the CPU."""

    def __init__(
        self, module: Any, inputs: tuple[Any, ...], threads: int, compiled: bool = False
    ) -> None:
        self._module, self._inputs, self._threads = module, inputs, threads
        self._call: Any = _compile(module, compiled)

    def run(self) -> Lap:
        """Run once."""
        with _use_threads(self._threads):
            return time_call(lambda: self._call(*self._inputs))

    def profile(self, runs: int) -> Profile:
        """Run with a stamp of the clock after every operator."""
        stamps: list[int] = []
        stamped, names = _add_stamps(self._module, lambda: stamps.append(time.perf_counter_ns()))
        rows, laps = [], []
        with _use_threads(self._threads):
            for _ in range(_WARM_UP + runs):
                stamps.clear()
                laps.append(time_call(lambda: stamped(*self._inputs)))
                rows.append(np.diff(stamps) / 1e6)
        steps = [Step(name, (name,)) for name in names]
        return Profile(steps, np.array(rows[_WARM_UP:]), laps[_WARM_UP:])

    def close(self) -> None:
        """Free the network."""
        self._module = self._call = None


def _add_stamps(module: Any, stamp: Callable[[], None]) -> tuple[Any, list[str]]:
    """Add a call of ``stamp`` before a network's first operator and after each one.

    The same Python code as the network's own, which frees every value where that does: an
    interpreter of the graph would add its own time to every operator.

    Returns:
        The network with stamps, and the operators' names.
    """
    import torch

    graph = torch.fx.Graph()
    new: dict[Any, Any] = {}
    names: list[str] = []
    for node in module.graph.nodes:
        if node.op == "output":
            graph.output(torch.fx.node.map_arg(node.args[0], new.__getitem__))
            continue
        timed = node.op not in _NOT_RUN
        if timed and not names:
            graph.call_function(stamp)
        new[node] = graph.node_copy(node, new.__getitem__)
        if timed:
            names.append(node.name)
            graph.call_function(stamp)
    return torch.fx.GraphModule(module, graph), names


class TorchCudaSession:
    """A copy of the network on the GPU; a run is a replay of its CUDA graph."""

    def __init__(self, module: Any, inputs: tuple[Any, ...], compiled: bool = False) -> None:
        import torch

        self._module, self._inputs, self._compiled = module, inputs, compiled
        call = _compile(module, compiled)
        self._stream: Any = torch.cuda.Stream()
        self._graph: Any = None
        try:
            with torch.inference_mode():
                self._stream.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(self._stream):
                    for _ in range(_WARM_UP):  # libraries choose their kernels here
                        call(*inputs)
                torch.cuda.synchronize()
                self._graph = self._capture(call)
        except torch.cuda.OutOfMemoryError as error:
            raise EngineError(f"the network does not fit the GPU's memory: {error}") from error
        self._call: Any = call

    def _capture(self, call: Callable[..., Any]) -> Any:
        """Record the network's CUDA graph; ``None`` where it waits for the GPU midway."""
        import torch

        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                self._kept = call(*self._inputs)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError:
            torch.cuda.synchronize()
            return None
        return graph

    def run(self) -> Lap:
        """Replay the graph, or run the network, once."""
        import torch

        with torch.inference_mode(), torch.cuda.stream(self._stream):
            before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            before.record()
            if self._graph is not None:
                self._graph.replay()
            else:
                self._call(*self._inputs)
            after.record()
            after.synchronize()
        ms = float(before.elapsed_time(after))
        return Lap(ms, ms)  # the processor only waits: nothing there can disturb the GPU

    def profile(self, runs: int) -> Profile:
        """Record events between the operators.

        The stream is held up first, so that they are all queued when it starts and no kernel waits
        for the processor. What remains is the GPU's own gap at every event, a few microseconds
        whatever lies between two of them: on an H200 a network's steps, large ones or cut ones,
        added up to the replayed graph and the same gap for each of them. Left in, it would make
        many small operators look dearer than few large ones.
        """
        import torch

        names: list[str] = []
        events: list[Any] = []

        class Stepper(torch.fx.Interpreter):
            def run_node(self, n: torch.fx.Node) -> Any:
                result = super().run_node(n)
                if n.op not in _NOT_RUN:
                    names.append(n.name)
                    events.append(torch.cuda.Event(enable_timing=True))
                    events[-1].record()
                return result

        rows, laps = [], []
        stepper = Stepper(self._module)
        hold = 0
        until = time.perf_counter() + _PROFILE_S
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            for number in range(_WARM_UP + runs):
                if number >= _WARM_UP + _PROFILED and time.perf_counter() > until:
                    break
                names.clear()
                events.clear()
                if hold:
                    torch.cuda._sleep(hold)
                start = time.perf_counter()
                events.append(torch.cuda.Event(enable_timing=True))
                events[-1].record()
                stepper.run(*self._inputs)
                # Cycles at 2 GHz for half as long again as it took to queue everything.
                hold = int(3e9 * (time.perf_counter() - start))
                events[-1].synchronize()
                pairs = zip(events, events[1:])
                rows.append([float(a.elapsed_time(b)) for a, b in pairs])
                laps.append(Lap(sum(rows[-1]), sum(rows[-1])))
        steps = [Step(name, (name,)) for name in names]
        ms = np.array(rows[_WARM_UP:])
        if self._graph is not None and not self._compiled:
            total = float(np.median([self.run().wall_ms for _ in range(_REPLAYS)]))
            ms = ms * remove_gaps(np.median(ms, axis=0), total)
        return Profile(steps, ms, laps[_WARM_UP:])

    def close(self) -> None:
        """Free the network."""
        self._graph = self._kept = self._call = self._module = None


def remove_gaps(steps_ms: NDArray[np.float64], total_ms: float) -> NDArray[np.float64]:
    """Compute the share of each step [steps] that is left once the same gap is taken off all.

    The gap is the one with which they add up to the total; ``_LEAST`` of a step stays in any case.
    1 for all where they add up to no more than the total.
    """
    if steps_ms.sum() <= total_ms:
        return np.ones_like(steps_ms)

    def shorten(gap_ms: float) -> NDArray[np.float64]:
        return np.maximum(steps_ms - gap_ms, _LEAST * steps_ms)

    low, high = 0.0, float(steps_ms.max())
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if shorten(middle).sum() > total_ms else (low, middle)
    return np.asarray(shorten(high) / np.maximum(steps_ms, 1e-12))


@contextmanager
def _use_threads(threads: int) -> Iterator[None]:
    """Set inference mode and a number of threads, and set back what was before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode(), flush_denormals():
            yield
    finally:
        torch.set_num_threads(before)
