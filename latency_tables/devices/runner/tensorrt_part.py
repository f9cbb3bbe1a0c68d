"""TensorRT over there, through pycuda: as ``latency_tables.engines.tensorrt_engine`` builds.

TensorRT 8.5 (JetPack 5.1) or later. From 9 on networks are strongly typed; before, the builder is
allowed the precision that the network is written in.
"""

from __future__ import annotations

import atexit
import json
import platform

import numpy as np

from .device_facts import describe_board, describe_gpu_power, describe_power, read_text
from .onnxruntime_part import WARM_UP
from .records import RunnerError, write_file


class TensorRtRunnerEngine:
    """TensorRT on the first GPU, one stream."""

    def __init__(self, setting):
        import pycuda.driver as cuda
        import tensorrt

        if not hasattr(tensorrt.ICudaEngine, "num_io_tensors"):
            raise RunnerError(f"TensorRT {tensorrt.__version__} is too old: 8.5 or later is needed")
        try:
            cuda.init()
            self.gpu = cuda.Device(0)
            context = self.gpu.retain_primary_context()
            context.push()
        except cuda.Error as error:
            raise RunnerError(f"no GPU can be used ({error})") from error
        # pycuda aborts a process that leaves a context on its stack.
        atexit.register(context.pop)
        self.setting, self.trt, self.cuda = setting, tensorrt, cuda
        self.stream = cuda.Stream()
        self.log = tensorrt.Logger(tensorrt.Logger.ERROR)

    def describe(self):
        """Return the device's fields."""
        attribute = self.cuda.device_attribute
        driver = read_text("/sys/module/nvidia/version")
        version = ".".join(map(str, self.cuda.get_version()))
        power = ", ".join(filter(None, (describe_power(), describe_gpu_power())))
        return {
            "processor": self.gpu.name(),
            "instructions": "sm_{}{}".format(*self.gpu.compute_capability()),
            "cores": self.gpu.get_attribute(attribute.MULTIPROCESSOR_COUNT),
            "system": f"{platform.system()} {platform.machine()}", "engine": "tensorrt",
            "engine_version": "tensorrt " + self.trt.__version__, "threads": 1,
            "precision": self.setting["precision"], "batch": self.setting["batch"],
            "driver": driver or "CUDA " + version, "options": "", "board": describe_board(),
            "power": power, "clock_mhz": None, "host": platform.node(),
        }  # fmt: skip

    def build(self, model, feed):
        """Parse a model and build its engine."""
        trt = self.trt
        builder = trt.Builder(self.log)
        config = builder.create_builder_config()
        network = builder.create_network(choose_types(trt, config, self.setting["precision"]))
        parser = trt.OnnxParser(network, self.log)
        if not parser.parse(model):
            said = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
            raise RunnerError(f"TensorRT refuses the network: {said}")
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise RunnerError("TensorRT cannot build the network")
        return TensorRtRunnerSession(self, plan, feed)


def choose_types(trt, config, precision):
    """Return the flags of a network whose types are its model's; TensorRT 8 asks the builder."""
    flag = trt.NetworkDefinitionCreationFlag
    if hasattr(flag, "STRONGLY_TYPED"):
        return 1 << int(flag.STRONGLY_TYPED)
    if not hasattr(flag, "EXPLICIT_BATCH"):  # where all networks are strongly typed
        return 0
    if precision == "bf16":
        raise RunnerError(f"TensorRT {trt.__version__} cannot be held to bf16: 9 or later can")
    if precision in ("fp16", "int8"):
        config.set_flag(getattr(trt.BuilderFlag, precision.upper()))
    return 1 << int(flag.EXPLICIT_BATCH)


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
            size = self.engine.get_tensor_dtype(name).itemsize
            shape = tuple(self.engine.get_tensor_shape(name))
            if name in feed:
                self.memory[name] = cuda.to_device(fit_input(feed[name], size))
            elif min(shape, default=1) < 0:
                raise RunnerError(f"the shape of output {name} depends on values: {shape}")
            else:
                self.memory[name] = cuda.mem_alloc(max(int(np.ceil(trt.volume(shape) * size)), 1))
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
        metadata = read_metadata(text)
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


def read_metadata(text):
    """Map layers to what the inspector says that they were made of; nothing where it is no JSON."""
    try:
        layers = json.loads(text).get("Layers", [])
    except (ValueError, AttributeError):
        return {}
    return {own["Name"]: own.get("Metadata", "") for own in layers if isinstance(own, dict)}


def fit_input(values, size):
    """Convert whole numbers to the bytes that the engine takes: TensorRT 8 has none of 64 bits."""
    values = np.ascontiguousarray(values)
    if values.dtype.kind in "iu" and values.dtype.itemsize != size:
        values = values.astype(f"int{8 * int(size)}")
    return values
