"""ONNX Runtime over there: the settings of ``latency_tables.engines.onnxruntime_engine``."""

from __future__ import annotations

import json

from .device_facts import describe_cpu
from .laps import time_call
from .records import RunnerError, read_file

WARM_UP = 3


class OrtRunnerEngine:
    """ONNX Runtime's CPU provider."""

    def __init__(self, setting):
        import onnxruntime

        self.ort, self.setting = onnxruntime, setting

    def describe(self):
        """Return the device's fields."""
        return describe_cpu("onnxruntime", self.ort.__version__, self.setting)

    def build(self, model, feed):
        """Load a model."""
        return OrtRunnerSession(self, model, feed)


class OrtRunnerSession:
    """One network; its profiled copy is made when asked for."""

    def __init__(self, engine, model, feed):
        self.engine, self.model, self.feed = engine, model, feed
        self.session = self.load(None)

    def load(self, prefix):
        """Make a session, profiled into files of a prefix where one is given."""
        ort, options = self.engine.ort, self.engine.ort.SessionOptions()
        options.intra_op_num_threads = self.engine.setting["threads"]
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        # What a process's first session sets for the calling thread stays.
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        if prefix is not None:
            options.enable_profiling = True
            options.profile_file_prefix = prefix
        try:
            return ort.InferenceSession(self.model, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise RunnerError(f"ONNX Runtime refuses the network: {error}") from error

    def run(self):
        """Run once; return the clock's and the processor's microseconds."""
        return time_call(lambda: self.session.run(None, self.feed))

    def profile(self, runs, prefix):
        """Run a profiled copy: steps, microseconds a run and step, laps, and the raw file."""
        session = self.load(prefix)
        laps = [time_call(lambda: session.run(None, self.feed)) for _ in range(WARM_UP + runs)]
        raw = session.end_profiling()
        names, rows = read_kernels(json.loads(read_file(raw).decode()))
        if len(rows) != len(laps):
            raise RunnerError(f"ONNX Runtime profiled {len(rows)} of {len(laps)} runs")
        steps = [[name, name, 1 if "ReorderInput" in name else -1] for name in names]
        return steps, rows[WARM_UP:], laps[WARM_UP:], raw

    def close(self):
        """Free the session."""
        self.session = None


def read_kernels(events):
    """Read names in the order of execution, and microseconds a run and kernel."""
    runs, current = [], []
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            current.append(event)
        elif event.get("name") == "model_run":
            runs.append(current)
            current = []
    names = [e["name"][: -len("_kernel_time")] for e in runs[-1]] if runs else []
    if any([e["name"][: -len("_kernel_time")] for e in run] != names for run in runs):
        raise RunnerError("ONNX Runtime executed different kernels from run to run")
    return names, [[e["dur"] for e in run] for run in runs]
