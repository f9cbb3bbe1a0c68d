"""OpenVINO over there: the settings of ``latency_tables.engines.openvino_engine``."""

from __future__ import annotations

import json

from .device_facts import describe_cpu
from .laps import time_call
from .onnxruntime_part import WARM_UP
from .records import RunnerError, write_file

OPENVINO_PRECISIONS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}


class OpenVinoRunnerEngine:
    """OpenVINO's CPU plugin, one stream."""

    def __init__(self, setting):
        import openvino

        self.setting, self.core = setting, openvino.Core()
        self.version = openvino.__version__.split("-")[0]

    def describe(self):
        """Return the device's fields."""
        return describe_cpu("openvino", self.version, self.setting, "denormals as zero")

    def build(self, model, feed):
        """Compile a model."""
        return OpenVinoRunnerSession(self, model, feed)

    def compile_model(self, model, more):
        """Compile a model that was read, in this setting."""
        wanted = OPENVINO_PRECISIONS[self.setting["precision"]]
        settings = {
            "INFERENCE_NUM_THREADS": self.setting["threads"], "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": wanted,
            "CPU_DENORMALS_OPTIMIZATION": True,
        }  # fmt: skip
        try:
            compiled = self.core.compile_model(model, "CPU", dict(settings, **more))
        except RuntimeError as error:
            raise RunnerError(f"OpenVINO refuses the network: {error}") from error
        used = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if used != wanted:
            raise RunnerError(f"OpenVINO computes in {used} here where {wanted} is asked for")
        return compiled


class OpenVinoRunnerSession:
    """One network; its profiled copy is compiled when asked for."""

    def __init__(self, engine, model, feed):
        self.engine, self.feed = engine, dict(enumerate(feed.values()))
        try:
            self.model = engine.core.read_model(model)
        except RuntimeError as error:
            raise RunnerError(f"OpenVINO refuses the network: {error}") from error
        self.request = engine.compile_model(self.model, {}).create_infer_request()

    def infer(self, request):
        """Run once; return the clock's and the processor's microseconds."""
        return time_call(lambda: request.infer(self.feed, share_inputs=True, share_outputs=True))

    def run(self):
        """Run once; return the clock's and the processor's microseconds."""
        return self.infer(self.request)

    def profile(self, runs, prefix):
        """Run a profiled copy: steps, microseconds a run and step, laps, and the raw file."""
        compiled = self.engine.compile_model(self.model, {"PERF_COUNT": True})
        request = compiled.create_infer_request()
        steps = list_nodes(compiled.get_runtime_model())
        laps, rows = [], []
        for _ in range(WARM_UP + runs):
            laps.append(self.infer(request))
            times = {
                info.node_name: info.real_time.total_seconds() * 1e6
                for info in request.profiling_info
                if str(info.status).endswith("EXECUTED")
            }
            rows.append([round(times.get(name, 0.0), 1) for name, _, _ in steps])
        raw = prefix + ".json"
        write_file(raw, json.dumps({"steps": steps, "us": rows}).encode())
        return steps, rows[WARM_UP:], laps[WARM_UP:], raw

    def close(self):
        """Free the request."""
        self.request = None


def list_nodes(runtime_model):
    """List name, original names and served neighbour of what is executed, in order."""
    numbered = []
    for node in runtime_model.get_ordered_ops():
        info = {}
        for key, value in node.get_rt_info().items():
            info[key] = str(value.value if hasattr(value, "value") else value)
        kind = info.get("layerType", "")
        if kind not in ("Const", "Input", "Output", ""):
            step = [node.get_friendly_name(), info.get("originalLayersNames", "")]
            numbered.append(
                (int(info.get("execOrder", 0)), step + [1 if kind == "Reorder" else -1])
            )
    return [step for _, step in sorted(numbered, key=lambda pair: pair[0])]
