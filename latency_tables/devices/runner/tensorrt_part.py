"""TensorRT over there, through pycuda: as ``latency_tables.engines.tensorrt_engine`` builds."""

from __future__ import annotations

import json
import platform

import numpy as np

from .device_facts import describe_board, describe_power, read_text
from .onnxruntime_part import WARM_UP
from .records import RunnerError, write_file


class TensorRtRunnerEngine:
    """TensorRT on the first GPU, one stream, strongly typed networks."""

    def __init__(self, setting):
        import pycuda.driver as cuda
        import tensorrt

        cuda.init()
        self.setting, self.trt, self.cuda = setting, tensorrt, cuda
        self.gpu = cuda.Device(0)
        self.gpu.retain_primary_context().push()
        self.stream = cuda.Stream()
        self.log = tensorrt.Logger(tensorrt.Logger.ERROR)

    def describe(self):
        """Return the device's fields."""
        attribute = self.cuda.device_attribute
        driver = read_text("/sys/module/nvidia/version")
        version = ".".join(map(str, self.cuda.get_version()))
        return {
            "processor": self.gpu.name(),
            "instructions": "sm_{}{}".format(*self.gpu.compute_capability()),
            "cores": self.gpu.get_attribute(attribute.MULTIPROCESSOR_COUNT),
            "system": f"{platform.system()} {platform.machine()}", "engine": "tensorrt",
            "engine_version": "tensorrt " + self.trt.__version__, "threads": 1,
            "precision": self.setting["precision"], "batch": self.setting["batch"],
            "driver": driver or "CUDA " + version, "options": "", "board": describe_board(),
            "power": describe_power(), "clock_mhz": None, "host": platform.node(),
        }  # fmt: skip

    def build(self, model, feed):
        """Parse a model and build its engine."""
        trt = self.trt
        builder = trt.Builder(self.log)
        flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        network = builder.create_network(flags)
        parser = trt.OnnxParser(network, self.log)
        if not parser.parse(model):
            said = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
            raise RunnerError(f"TensorRT refuses the network: {said}")
        config = builder.create_builder_config()
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise RunnerError("TensorRT cannot build the network")
        return TensorRtRunnerSession(self, plan, feed)


class TensorRtRunnerSession:
    """One network on the GPU, its inputs there already."""

    def __init__(self, engine, plan, feed):
        trt, cuda = engine.trt, engine.cuda
        self.owner, self.memory = engine, {}
        self.runtime = trt.Runtime(engine.log)
        self.engine = self.runtime.deserialize_cuda_engine(plan)
        if self.engine is None:
            raise RunnerError("TensorRT cannot load the engine that it built")
        for index in range(self.engine.num_io_tensors):
            name = self.engine.get_tensor_name(index)
            if name in feed:
                self.memory[name] = cuda.to_device(np.ascontiguousarray(feed[name]))
            else:
                count = int(trt.volume(self.engine.get_tensor_shape(name)))
                size = int(np.ceil(count * self.engine.get_tensor_dtype(name).itemsize))
                self.memory[name] = cuda.mem_alloc(max(size, 1))
        self.context = self.make_context()

    def make_context(self):
        """Make an execution context with all addresses set."""
        context = self.engine.create_execution_context()
        if context is None:
            raise RunnerError("TensorRT makes no execution context; is the GPU's memory full?")
        for name, memory in self.memory.items():
            context.set_tensor_address(name, int(memory))
        return context

    def enqueue(self, context):
        """Run once between two events; return microseconds, twice: nothing can disturb a GPU."""
        cuda, stream = self.owner.cuda, self.owner.stream
        before, after = cuda.Event(), cuda.Event()
        before.record(stream)
        if not context.execute_async_v3(int(stream.handle)):
            raise RunnerError("TensorRT failed to run the network")
        after.record(stream)
        after.synchronize()
        us = float(before.time_till(after)) * 1e3
        return us, us

    def run(self):
        """Run once; return microseconds."""
        return self.enqueue(self.context)

    def profile(self, runs, prefix):
        """Run with TensorRT's profiler: steps, microseconds a run and step, laps, the raw file."""
        context, times = self.make_context(), make_layer_times(self.owner.trt)
        context.profiler = times
        laps, rows = [], []
        for _ in range(WARM_UP + runs):
            del times.reported[:]
            laps.append(self.enqueue(context))
            self.owner.stream.synchronize()
            rows.append(list(times.reported))
        names = [name for name, _ in rows[-1]]
        if any([name for name, _ in row] != names for row in rows[WARM_UP:]):
            raise RunnerError("TensorRT reported different layers from run to run")
        inspector = self.engine.create_engine_inspector()
        text = inspector.get_engine_information(self.owner.trt.LayerInformationFormat.JSON)
        metadata = {}
        for layer in json.loads(text).get("Layers", []):
            if isinstance(layer, dict):
                metadata[layer["Name"]] = layer.get("Metadata", "")
        steps = []
        for name in names:
            made_up = "Reformat" in name or "CopyNode" in name
            steps.append([name, metadata.get(name) or name, 1 if made_up else -1])
        us = [[round(ms * 1e3, 2) for _, ms in row] for row in rows[WARM_UP:]]
        raw = prefix + ".json"
        write_file(raw, json.dumps({"layers": text, "steps": steps, "us": us}).encode())
        return steps, us, laps[WARM_UP:], raw

    def close(self):
        """Free the engine and its memory, in this order."""
        self.context = self.engine = self.runtime = None
        self.memory.clear()


def make_layer_times(trt):
    """Make a profiler that keeps the layers' times of one run."""

    class LayerTimesOverThere(trt.IProfiler):  # type: ignore
        def __init__(self):
            trt.IProfiler.__init__(self)
            self.reported = []

        def report_layer_time(self, layer_name, ms):
            self.reported.append((layer_name, ms))

    return LayerTimesOverThere()
