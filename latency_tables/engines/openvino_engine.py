"""OpenVINO on the CPU, with its performance counters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..denormals import denormals_as_zero
from ..device import Device, cpu_device
from ..engine import Profile, Step
from ..errors import EngineError
from ..source import Probe
from ..stopwatch import Lap, lap
from .naming import operators_of, output_operators
from .onnx_precision import probe_model

# What may be computed in where the model says fp32.
_PRECISIONS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}
_WARM_UP = 3


class OpenVinoEngine:
    """OpenVINO's CPU plugin, one stream, for latency, with denormal numbers taken as zeros.

    Left as they are, they make layers of some networks far slower in one build than in the next,
    also where no activation is one: on an Intel processor EfficientNet-B0's narrowing 1 x 1
    convolutions. An application should set ``CPU_DENORMALS_OPTIMIZATION`` too.

    precision
        What the plugin may compute in: fp32 (exactly that), bf16 or fp16 where the CPU has them;
        int8: the network quantized after training, and fp32 for the rest.
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
        return cpu_device(
            self.name, self.version, self.threads, self.precision, "denormals as zero"
        )

    def build(self, probe: Probe) -> OpenVinoSession:
        settings = {
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": _PRECISIONS[self.precision],
            "CPU_DENORMALS_OPTIMIZATION": True,
        }
        return OpenVinoSession(self._core, probe, settings, self.precision)


class OpenVinoSession:
    """One network; the profiled copy is compiled when it is asked for."""

    def __init__(self, core: Any, probe: Probe, settings: dict[str, Any], precision: str) -> None:
        import onnx

        self._core, self._settings = core, settings
        self._operators = frozenset(probe.cell_of)
        self._feed = {
            index: np.ascontiguousarray(x.detach().cpu().numpy())
            for index, x in enumerate(probe.inputs)
        }
        try:
            # Half precision is the plugin's own choice of kernels for a model in fp32.
            data = probe_model(probe, precision if precision == "int8" else "fp32")
            self._outputs = output_operators(
                onnx.load_model_from_string(data).graph, self._operators
            )
            self._model = core.read_model(data)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO refuses the network: {error}") from error
        compiled = self._compiled({})
        wanted = settings["INFERENCE_PRECISION_HINT"]
        used = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if used != wanted:
            raise EngineError(
                f"OpenVINO computes in {used} on this CPU where {wanted} is asked for; "
                "measure in a precision that it has"
            )
        self._request: Any = compiled.create_infer_request()

    def run(self) -> Lap:
        with denormals_as_zero():
            return lap(
                lambda: self._request.infer(self._feed, share_inputs=True, share_outputs=True)
            )

    def profile(self, runs: int) -> Profile:
        compiled = self._compiled({"PERF_COUNT": True})
        request = compiled.create_infer_request()
        steps = executed_steps(compiled.get_runtime_model(), self._operators, self._outputs)
        laps, ms = [], []
        for _ in range(_WARM_UP + runs):
            with denormals_as_zero():
                laps.append(
                    lap(lambda: request.infer(self._feed, share_inputs=True, share_outputs=True))
                )
            times = {
                info.node_name: info.real_time.total_seconds() * 1e3
                for info in request.profiling_info
                if str(info.status).endswith("EXECUTED")
            }
            ms.append([times.get(step.name, 0.0) for step in steps])
        return Profile(steps, np.array(ms[_WARM_UP:]), laps[_WARM_UP:])

    def close(self) -> None:
        self._request = None

    def _compiled(self, more: dict[str, Any]) -> Any:
        try:
            # The option holds for the calling thread, which keeps it, and for those it starts.
            with denormals_as_zero():
                return self._core.compile_model(self._model, "CPU", {**self._settings, **more})
        except RuntimeError as error:
            raise EngineError(f"OpenVINO refuses the network: {error}") from error


def executed_steps(
    runtime_model: Any, operators: frozenset[str], outputs: Mapping[str, str]
) -> list[Step]:
    """The compiled graph's nodes in the order of execution, without constants and inputs."""
    placed = []
    for node in runtime_model.get_ordered_ops():
        info = {key: str(_plain(value)) for key, value in node.get_rt_info().items()}
        kind = info.get("layerType", "")
        if kind in ("Const", "Input", "Output", ""):
            continue
        name = node.get_friendly_name()
        # The names of what was fused into it, the anchor first; none: the plugin made it up.
        found = operators_of(info.get("originalLayersNames", ""), operators, outputs)
        # A change of layout is made for its consumer.
        towards = +1 if kind == "Reorder" else -1
        placed.append((int(info.get("execOrder", 0)), Step(name, found, towards)))
    return [step for _, step in sorted(placed, key=lambda pair: pair[0])]


def _plain(value: Any) -> Any:
    return value.value if hasattr(value, "value") else value
