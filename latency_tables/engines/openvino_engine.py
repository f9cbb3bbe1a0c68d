"""OpenVINO on the CPU, with its performance counters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..device import Device, describe_cpu
from ..errors import EngineError
from ..source import Probe
from .base import Lap, Profile, Step, time_call
from .denormals import flush_denormals
from .kernel_names import find_operators, find_output_operators
from .onnx_precision import export_model

# What may be computed in where the model says fp32.
_PRECISIONS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}
_WARM_UP = 3


class OpenVinoEngine:
    """OpenVINO's CPU plugin, one stream, for latency, with denormal numbers taken as zeros.

    Left as they are, they make layers of some networks far slower in one build than in the next,
    also where no activation is one: on an Intel processor EfficientNet-B0's narrowing 1 x 1
    convolutions. An application should set ``CPU_DENORMALS_OPTIMIZATION`` too.

    Args:
        precision: What the plugin may compute in: fp32 (exactly that), bf16 or fp16 where the CPU
            has them; int8: the network quantized after training, and fp32 for the rest.
    """

    name = "openvino"

    def __init__(self, *, threads: int = 1, precision: str = "fp32") -> None:
        import openvino

        if threads < 1:
            raise EngineError(f"threads is {threads}; give 1 or more")
        if precision not in _PRECISIONS:
            raise EngineError(f"engine 'openvino' runs {', '.join(_PRECISIONS)}, not {precision!r}")
        self.threads, self.precision = threads, precision
        self.version: str = openvino.__version__.split("-")[0]
        self._core = openvino.Core()

    @property
    def device(self) -> Device:
        """This CPU in this setting, at batch 1."""
        return describe_cpu(
            self.name, self.version, self.threads, self.precision, "denormals as zero"
        )

    def build(self, probe: Probe) -> OpenVinoSession:
        """Export a probe and compile it; raise ``EngineError`` where OpenVINO refuses it."""
        return OpenVinoSession(self._core, probe, self.threads, self.precision)


class OpenVinoSession:
    """One network; the profiled copy is compiled when it is asked for."""

    def __init__(self, core: Any, probe: Probe, threads: int, precision: str) -> None:
        self._core, self._threads, self._precision = core, threads, precision
        self._operators = frozenset(probe.cell_of)
        self._feed = {
            index: np.ascontiguousarray(x.detach().cpu().numpy())
            for index, x in enumerate(probe.inputs)
        }
        try:
            # Half precision is the plugin's own choice of kernels for a model in fp32.
            data = export_model(probe, precision if precision == "int8" else "fp32")
            self._outputs = find_output_operators(data, self._operators)
            self._model = core.read_model(data)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO refuses the network: {error}") from error
        compiled = self._compile({})
        wanted = _PRECISIONS[precision]
        used = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if used != wanted:
            raise EngineError(
                f"OpenVINO computes in {used} on this CPU where {wanted} is asked for; "
                "measure in a precision that it has"
            )
        self._request: Any = compiled.create_infer_request()

    def run(self) -> Lap:
        """Run once."""
        return self._infer(self._request)

    def profile(self, runs: int) -> Profile:
        """Run a copy of the network that counts its nodes' times."""
        compiled = self._compile({"PERF_COUNT": True})
        request = compiled.create_infer_request()
        steps = list_steps(compiled.get_runtime_model(), self._operators, self._outputs)
        laps, ms = [], []
        for _ in range(_WARM_UP + runs):
            laps.append(self._infer(request))
            times = {
                info.node_name: info.real_time.total_seconds() * 1e3
                for info in request.profiling_info
                if str(info.status).endswith("EXECUTED")
            }
            ms.append([times.get(step.name, 0.0) for step in steps])
        return Profile(steps, np.array(ms[_WARM_UP:]), laps[_WARM_UP:])

    def close(self) -> None:
        """Free the request."""
        self._request = None

    def _infer(self, request: Any) -> Lap:
        with flush_denormals():
            return time_call(
                lambda: request.infer(self._feed, share_inputs=True, share_outputs=True)
            )

    def _compile(self, more: Mapping[str, Any]) -> Any:
        return compile_openvino(self._core, self._model, self._threads, self._precision, more)


def compile_openvino(
    core: Any,
    model: Any,
    threads: int,
    precision: str = "fp32",
    more: Mapping[str, Any] | None = None,
) -> Any:
    """Compile a model of OpenVINO, or its file, for the CPU: one stream, denormals as zeros.

    Args:
        core: OpenVINO's own.
        model: The model, or the path of its file.
        threads: Threads that it may use.
        precision: What the plugin may compute in.
        more: Further settings of the plugin.

    Raises:
        EngineError: OpenVINO refuses it.
    """
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
        "CPU_DENORMALS_OPTIMIZATION": True,
    }
    try:
        # The option holds for the calling thread, which keeps it, and for those it starts.
        with flush_denormals():
            return core.compile_model(model, "CPU", {**settings, **(more or {})})
    except RuntimeError as error:
        raise EngineError(f"OpenVINO refuses the network: {error}") from error


def list_steps(
    runtime_model: Any, operators: frozenset[str], outputs: Mapping[str, str]
) -> list[Step]:
    """List the compiled graph's nodes in the order of execution, without constants and inputs."""
    numbered = []
    for node in runtime_model.get_ordered_ops():
        info = {key: str(_unwrap(value)) for key, value in node.get_rt_info().items()}
        kind = info.get("layerType", "")
        if kind in ("Const", "Input", "Output", ""):
            continue
        name = node.get_friendly_name()
        # The names of what was fused into it, the anchor first; none: the plugin made it up.
        found = find_operators(info.get("originalLayersNames", ""), operators, outputs)
        # A change of layout is made for its consumer.
        towards = +1 if kind == "Reorder" else -1
        numbered.append((int(info.get("execOrder", 0)), Step(name, found, towards)))
    return [step for _, step in sorted(numbered, key=lambda pair: pair[0])]


def _unwrap(value: Any) -> Any:
    return value.value if hasattr(value, "value") else value
