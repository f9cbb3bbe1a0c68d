"""TensorRT on an NVIDIA GPU, with its profiler; TensorRT-RTX where only that is installed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..device import Device
from ..errors import EngineError
from ..source import Probe
from .base import Lap, Profile, Step
from .cuda import Cuda, describe_gpu, open_cuda
from .kernel_names import find_onnx_layers, find_operators, find_output_operators
from .onnx_precision import export_model, to_bf16
from .plan_files import PlanFiles
from .tensorrt_library import load_tensorrt

_PRECISIONS = ("fp32", "fp16", "bf16", "int8")
_WARM_UP = 3


class TensorRtEngine:
    """TensorRT, one stream.

    Making one, and ``plan``, need no GPU; ``device`` and ``build`` do.

    Args:
        precision: fp32 (with TF32 where the GPU has it, as is TensorRT's habit), fp16 or bf16
            (the whole network cast), int8 (quantized after training). Networks are strongly typed:
            TensorRT computes in what the model says.
        folder: Where built engine files and the timing cache are kept, so that the same network
            is not built twice; by default below the user's cache.
    """

    name = "tensorrt"

    def __init__(
        self, *, threads: int = 1, precision: str = "fp32", folder: str | Path | None = None
    ) -> None:
        if threads != 1:
            raise EngineError(f"threads is {threads}; engine 'tensorrt' is driven by 1")
        if precision not in _PRECISIONS:
            raise EngineError(f"engine 'tensorrt' runs {', '.join(_PRECISIONS)}, not {precision!r}")
        self.threads, self.precision = threads, precision
        self.library, self._trt = load_tensorrt()
        self.version = f"{self.library} {self._trt.__version__}"
        self._files = PlanFiles(folder)
        self._cuda: Cuda | None = None

    @property
    def cuda(self) -> Cuda:
        """The GPU; raises ``EngineError`` where there is none, or no way to use it."""
        if self._cuda is None:
            self._cuda = open_cuda()
        return self._cuda

    @property
    def device(self) -> Device:
        """The GPU in this setting, at batch 1."""
        return describe_gpu(self.cuda, self.name, self.version, self.precision)

    def build(self, probe: Probe) -> TensorRtSession:
        """Build a probe, or read what was built of it, and load it."""
        model = self.model(probe)
        return TensorRtSession(self._trt, self.cuda, self._plan(model, None), model, probe)

    def model(self, probe: Probe) -> bytes:
        """Export a probe to ONNX in the engine's precision."""
        return export_model(probe, self.precision, symmetric=True)

    def plan(self, probe: Probe, capability: str | None = None) -> bytes:
        """Build a probe's engine, as its file holds it.

        With a ``capability``, e.g. ``"SM89"``, for a GPU that is not here (TensorRT-RTX only).
        """
        return self._plan(self.model(probe), capability)

    def _plan(self, model: bytes, capability: str | None) -> bytes:
        target = capability or "sm_{}{}".format(*self.cuda.capability)
        setting = f"{self.version} {target} {self.cuda.name if capability is None else ''}"
        key = hashlib.sha256(setting.encode() + model).hexdigest()[:32]
        known = self._files.read(key)
        if known is not None:
            return known
        built = build_plan(self._trt, model, capability, self._files)
        self._files.write(key, built)
        return built


def build_plan(trt: Any, model: bytes, capability: str | None, files: PlanFiles) -> bytes:
    """Parse an ONNX model and build it; raise ``EngineError`` with what TensorRT said."""
    log = _make_log(trt)
    builder = trt.Builder(log)
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model):
        said = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise EngineError(f"TensorRT refuses the network: {said}")
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if capability is not None:
        known = getattr(trt, "ComputeCapability", None)
        if known is None or capability not in known.__members__:
            raise EngineError(
                f"this TensorRT builds for the GPU that is here only, not for {capability!r}"
            )
        config.num_compute_capabilities = 1
        config.set_compute_capability(known.__members__[capability], 0)
    cache = config.create_timing_cache(files.read_timings() or b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    built = builder.build_serialized_network(network, config)
    if built is None:
        raise EngineError(f"TensorRT cannot build the network: {log.join_errors()}")
    files.write_timings(bytes(memoryview(cache.serialize())))
    return bytes(memoryview(built))


class TensorRtSession:
    """One network on the GPU, its inputs there already."""

    def __init__(self, trt: Any, cuda: Cuda, plan: bytes, model: bytes, probe: Probe) -> None:
        import onnx

        self._trt, self._cuda, self._operators = trt, cuda, frozenset(probe.cell_of)
        graph = onnx.load_model_from_string(model).graph
        self._outputs = find_output_operators(model, self._operators)
        log = _make_log(trt)
        self._runtime = trt.Runtime(log)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EngineError(f"TensorRT cannot load the engine: {log.join_errors()}")
        inputs = dict(zip([i.name for i in graph.input], probe.inputs, strict=True))
        self._memory: dict[str, Any] = {}
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            kind = self._engine.get_tensor_dtype(name)
            if name in inputs:
                values = _convert(trt, inputs[name].detach().cpu().numpy(), kind)
                self._memory[name] = cuda.upload(values)
            else:
                count = int(trt.volume(self._engine.get_tensor_shape(name)))
                self._memory[name] = cuda.reserve(int(np.ceil(count * kind.itemsize)))
        self._context = self._make_context()

    def run(self) -> Lap:
        """Run once."""
        ms = self._cuda.time_call(lambda: self._enqueue(self._context))
        return Lap(ms, ms)  # the processor only waits: nothing there can disturb the GPU

    def profile(self, runs: int) -> Profile:
        """Run in a context of its own, with TensorRT's profiler."""
        context, times = self._make_context(), _make_profiler(self._trt)
        # With a profiler attached TensorRT waits after every run and reports before it returns.
        context.profiler = times
        laps, rows = [], []
        for _ in range(_WARM_UP + runs):
            times.reported.clear()
            ms = self._cuda.time_call(lambda: self._enqueue(context))
            self._cuda.synchronize()
            laps.append(Lap(ms, ms))
            rows.append(list(times.reported))
        names = [name for name, _ in rows[-1]]
        if any([name for name, _ in row] != names for row in rows[_WARM_UP:]):
            raise EngineError("TensorRT reported different layers from run to run")
        inspector = self._engine.create_engine_inspector()
        text = inspector.get_engine_information(self._trt.LayerInformationFormat.JSON)
        sources = read_layer_sources(text)
        steps = [make_step(name, sources, self._operators, self._outputs) for name in names]
        ms_of = np.array([[ms for _, ms in row] for row in rows[_WARM_UP:]])
        return Profile(steps, ms_of.reshape(runs, len(steps)), laps[_WARM_UP:])

    def close(self) -> None:
        """Free the engine and its memory."""
        # In this order: what is freed last is what the others rest on.
        self._context = self._engine = self._runtime = None
        self._memory.clear()

    def _make_context(self) -> Any:
        context = self._engine.create_execution_context()
        if context is None:
            raise EngineError("TensorRT makes no execution context; is the GPU's memory full?")
        for name, memory in self._memory.items():
            context.set_tensor_address(name, self._cuda.address(memory))
        return context

    def _enqueue(self, context: Any) -> None:
        if not context.execute_async_v3(self._cuda.stream):
            raise EngineError("TensorRT failed to run the network")


def read_layer_sources(information: str) -> dict[str, tuple[str, ...]]:
    """Map an engine's layers to the ONNX nodes that they were made of, in order.

    ``information`` is ``EngineInspector``'s JSON of an engine built with detailed verbosity.
    """
    layers = json.loads(information).get("Layers", [])
    return {
        layer["Name"]: find_onnx_layers(layer.get("Metadata", ""))
        for layer in layers
        if isinstance(layer, dict)  # plain names, where the engine was built without details
    }


def make_step(
    name: str,
    sources: Mapping[str, tuple[str, ...]],
    operators: Collection[str],
    outputs: Mapping[str, str],
) -> Step:
    """Turn a layer that the profiler reported into a step, with its operators."""
    found: dict[str, None] = {}
    for source in sources.get(name) or (name,):
        found.update(dict.fromkeys(find_operators(source, operators, outputs)))
    # A copy into another format is made for what reads it.
    return Step(name, tuple(found), +1 if "Reformat" in name or "CopyNode" in name else -1)


def _convert(trt: Any, values: Any, kind: Any) -> Any:
    if kind == trt.DataType.BF16:
        return to_bf16(values)
    return values.astype(trt.nptype(kind))


def _make_log(trt: Any) -> Any:
    """Make a logger that keeps what TensorRT says, since it returns None where it fails."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.said: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.said.append(message)

        def join_errors(self) -> str:
            return "; ".join(self.said[-3:]) or "no reason given"

    return Log()


def _make_profiler(trt: Any) -> Any:
    """Make a profiler that keeps the layers' times of one run."""

    class LayerTimes(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.reported: list[tuple[str, float]] = []

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.reported.append((layer_name, ms))

    return LayerTimes()
