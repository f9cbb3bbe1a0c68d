"""ONNX Runtime on the CPU, with its own profiler."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ..device import Device, describe_cpu
from ..errors import EngineError
from ..source import Probe
from .base import Lap, Profile, Step, time_call
from .denormals import flush_denormals
from .kernel_names import find_operators, find_output_operators
from .onnx_precision import export_model

_PRECISIONS = ("fp32", "int8")
_PROVIDERS = ["CPUExecutionProvider"]
_KERNEL = "_kernel_time"
_WARM_UP = 3


class OnnxRuntimeEngine:
    """ONNX Runtime's CPU execution provider, sequential execution.

    Args:
        precision: fp32, or int8: quantized after training, weights by channel.
    """

    name = "onnxruntime"

    def __init__(self, *, threads: int = 1, precision: str = "fp32") -> None:
        import onnxruntime

        if threads < 1:
            raise EngineError(f"threads is {threads}; give 1 or more")
        if precision not in _PRECISIONS:
            raise EngineError(
                f"engine 'onnxruntime' runs {', '.join(_PRECISIONS)}, not {precision!r}; its "
                "kernels for half precision on the CPU are few and slow"
            )
        self.threads, self.precision = threads, precision
        self.version: str = onnxruntime.__version__

    @property
    def device(self) -> Device:
        """This CPU in this setting, at batch 1."""
        return describe_cpu(self.name, self.version, self.threads, self.precision)

    def build(self, probe: Probe) -> OnnxRuntimeSession:
        """Export a probe and load it; raise ``EngineError`` where ONNX Runtime refuses it."""
        return OnnxRuntimeSession(probe, self.threads, self.precision)


class OnnxRuntimeSession:
    """One network; the profiler's session is made when it is asked for."""

    def __init__(self, probe: Probe, threads: int, precision: str = "fp32") -> None:
        self._model = export_model(probe, precision)
        self._threads = threads
        self._operators = frozenset(probe.cell_of)
        self._session = open_onnx(self._model, threads)
        inputs = [np.ascontiguousarray(x.detach().cpu().numpy()) for x in probe.inputs]
        names = [i.name for i in self._session.get_inputs()]
        self._outputs = find_output_operators(self._model, self._operators)
        self._feed = dict(zip(names, inputs, strict=True))

    def run(self) -> Lap:
        """Run once."""
        return self._infer(self._session)

    def profile(self, runs: int) -> Profile:
        """Run a copy of the session that logs its kernels, and read the log."""
        with tempfile.TemporaryDirectory(prefix="latency_tables_") as folder:
            session = open_onnx(self._model, self._threads, str(Path(folder) / "profile"))
            laps = [self._infer(session) for _ in range(_WARM_UP + runs)]
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        names, ms = read_kernel_times(events)
        if len(ms) != len(laps):
            raise EngineError(
                f"ONNX Runtime profiled {len(ms)} of {len(laps)} runs; its log was cut off"
            )
        steps = [
            Step(
                name,
                find_operators(name, self._operators, self._outputs),
                # ReorderInput makes the blocked layout for what follows, ReorderOutput undoes it.
                +1 if "ReorderInput" in name else -1,
            )
            for name in names
        ]
        return Profile(steps, ms[_WARM_UP:], laps[_WARM_UP:])

    def close(self) -> None:
        """Free the session."""
        self._session = None

    def _infer(self, session: Any) -> Lap:
        with flush_denormals():
            return time_call(lambda: session.run(None, self._feed))


def open_onnx(model: bytes | str, threads: int, profile: str | None = None) -> Any:
    """Load an ONNX model, or its file, for the CPU: sequential, denormal numbers as zeros.

    Args:
        model: Its bytes, or the path of its file.
        threads: Threads that it may use.
        profile: What the profiler's file is called in front; None: it is not profiled.

    Raises:
        EngineError: ONNX Runtime refuses it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    # For its own threads. A process's first session sets the calling thread too, and for good.
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    try:
        with flush_denormals():
            return onnxruntime.InferenceSession(model, options, providers=_PROVIDERS)
    except Exception as error:  # onnxruntime raises classes of its own, without a common base
        raise EngineError(f"ONNX Runtime refuses the network: {error}") from error


def read_kernel_times(events: list[dict[str, Any]]) -> tuple[list[str], np.ndarray[Any, Any]]:
    """Read kernel names in the order of execution, and times [runs, kernels] in milliseconds.

    ``events`` is the profiler's file: kernels of one run, then that run's ``model_run`` event.
    Runs that did not execute the same kernels raise ``EngineError``.
    """
    runs: list[list[dict[str, Any]]] = []
    current: list[dict[str, Any]] = []
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            current.append(event)
        elif event.get("name") == "model_run":
            runs.append(current)
            current = []
    names = [event["name"][: -len(_KERNEL)] for event in runs[-1]] if runs else []
    if any([e["name"][: -len(_KERNEL)] for e in run] != names for run in runs):
        raise EngineError(
            "ONNX Runtime executed different kernels from run to run; networks with control flow "
            "cannot be profiled"
        )
    # dur is whole microseconds, cut off; half of one on average is lost and comes back with the
    # cost of a kernel's launch, which is estimated from the end-to-end time.
    return names, np.array([[e["dur"] / 1e3 for e in run] for run in runs])
