"""The runner's TensorRT part against stand-ins for TensorRT 8.5 and 10, as they are documented."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from latency_tables.devices.runner.records import RunnerError
from latency_tables.devices.runner.tensorrt_part import (
    TensorRtRunnerEngine,
    fit_input,
    read_metadata,
)


class DataType:
    def __init__(self, itemsize: int) -> None:
        self.itemsize = itemsize


class Context:
    def __init__(self) -> None:
        self.addresses: dict[str, int] = {}
        self.profiler: Any = None

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        if self.profiler is not None:
            self.profiler.report_layer_time("c0", 0.5)
            self.profiler.report_layer_time("Reformatting CopyNode for c1", 0.25)
        return set(self.addresses) == {"x", "y"}


class CudaEngine:
    num_io_tensors = 2
    shapes = {"x": (1, 4), "y": (1, 3)}
    types = {"x": DataType(4), "y": DataType(2)}

    def get_tensor_name(self, index: int) -> str:
        return ("x", "y")[index]

    def get_tensor_dtype(self, name: str) -> DataType:
        return self.types[name]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def create_execution_context(self) -> Context:
        return Context()

    def create_engine_inspector(self) -> SimpleNamespace:
        layers = [{"Name": "c0", "Metadata": "[ONNX Layer: c0/mm]"}, "plain"]
        return SimpleNamespace(get_engine_information=lambda form: json.dumps({"Layers": layers}))


def make_tensorrt(strong: bool, weak: bool, engine: type = CudaEngine) -> SimpleNamespace:
    """Make a module with what the runner calls; ``asked`` keeps its flags."""
    asked: list[Any] = []
    config = SimpleNamespace(set_flag=asked.append, profiling_verbosity=None)
    builder = SimpleNamespace(
        create_network=lambda flags: asked.append(flags),
        create_builder_config=lambda: config,
        build_serialized_network=lambda network, config: b"plan",
    )
    parser = SimpleNamespace(parse=lambda model: True)
    flags = {"EXPLICIT_BATCH": 0} if weak else {}
    flags |= {"STRONGLY_TYPED": 1} if strong else {}
    return SimpleNamespace(
        __version__="10.3" if strong else "8.5", asked=asked, ICudaEngine=engine,
        Logger=type("Logger", (), {"ERROR": 1, "__init__": lambda self, level: None}),
        Builder=lambda log: builder, OnnxParser=lambda network, log: parser,
        NetworkDefinitionCreationFlag=SimpleNamespace(**flags),
        BuilderFlag=SimpleNamespace(FP16="FP16", INT8="INT8"),
        ProfilingVerbosity=SimpleNamespace(DETAILED=2),
        Runtime=lambda log: SimpleNamespace(deserialize_cuda_engine=lambda plan: engine()),
        LayerInformationFormat=SimpleNamespace(JSON=1), IProfiler=object,
        volume=lambda shape: int(np.prod(shape)),
    )  # fmt: skip


class Cuda:
    """Stands in for ``pycuda.driver``."""

    class Error(Exception):
        pass

    def __init__(self, count: int = 1) -> None:
        self.count, self.stack, self.uploaded = count, 0, []  # type: ignore[var-annotated]
        self.sizes: list[int] = []
        self.device_attribute = SimpleNamespace(MULTIPROCESSOR_COUNT=1)
        self.Stream = lambda: SimpleNamespace(handle=7, synchronize=lambda: None)
        self.Event = lambda: SimpleNamespace(
            record=lambda stream: None, synchronize=lambda: None, time_till=lambda other: 0.75
        )

    def init(self) -> None:
        if not self.count:
            raise self.Error("cuInit failed: no CUDA-capable device is detected")

    def push(self) -> None:
        self.stack += 1

    def pop(self) -> None:
        self.stack -= 1

    def Device(self, index: int) -> SimpleNamespace:
        context = SimpleNamespace(push=self.push, pop=self.pop)
        return SimpleNamespace(
            retain_primary_context=lambda: context, name=lambda: "Orin",
            compute_capability=lambda: (8, 7), get_attribute=lambda attribute: 8,
        )  # fmt: skip

    def get_version(self) -> tuple[int, ...]:
        return (12, 6, 0)

    def to_device(self, values: Any) -> int:
        self.uploaded.append(values)
        return 1

    def mem_alloc(self, size: int) -> int:
        self.sizes.append(size)
        return 2


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is called when the process ends."""
    calls: list[Any] = []
    monkeypatch.setattr("atexit.register", calls.append)
    return calls


def open_engine(
    monkeypatch: pytest.MonkeyPatch, trt: SimpleNamespace, cuda: Cuda, precision: str = "fp32"
) -> TensorRtRunnerEngine:
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setitem(sys.modules, "pycuda", SimpleNamespace(driver=cuda))
    monkeypatch.setitem(sys.modules, "pycuda.driver", cuda)
    return TensorRtRunnerEngine({"precision": precision, "batch": 1})


@pytest.mark.parametrize(
    ("strong", "weak", "precision", "asked"),
    [
        (True, True, "fp16", [2]),  # 9 and 10
        (True, True, "bf16", [2]),
        (False, True, "fp32", [1]),  # 8
        (False, True, "fp16", ["FP16", 1]),
        (False, True, "int8", ["INT8", 1]),
        (False, False, "fp16", [0]),  # where weakly typed networks are gone
    ],
)
def test_a_network_is_computed_in_its_own_types(
    monkeypatch, ended, strong: bool, weak: bool, precision: str, asked: list[Any]
) -> None:
    trt = make_tensorrt(strong, weak)
    engine = open_engine(monkeypatch, trt, Cuda(), precision)
    engine.build(b"model", {"x": np.zeros((1, 4), np.float32)})
    assert trt.asked == asked


def test_what_an_older_tensorrt_cannot_is_refused(monkeypatch, ended) -> None:
    engine = open_engine(monkeypatch, make_tensorrt(False, True), Cuda(), "bf16")
    with pytest.raises(RunnerError, match="TensorRT 8.5 cannot be held to bf16"):
        engine.build(b"model", {})
    with pytest.raises(RunnerError, match="is too old: 8.5 or later"):
        open_engine(monkeypatch, make_tensorrt(False, True, engine=object), Cuda())


def test_it_is_timed_and_profiled(monkeypatch, ended, tmp_path) -> None:
    cuda = Cuda()
    engine = open_engine(monkeypatch, make_tensorrt(True, True), cuda)
    assert engine.describe()["processor"] == "Orin"
    session = engine.build(b"model", {"x": np.arange(4, dtype=np.int64).reshape(1, 4)})
    assert cuda.sizes == [6]  # three values of two bytes
    assert cuda.uploaded[0].dtype == np.int32 and cuda.uploaded[0].tolist() == [[0, 1, 2, 3]]
    assert session.run() == (750.0, 750.0)
    steps, us, laps, raw = session.profile(5, str(tmp_path / "raw"))
    assert steps == [
        ["c0", "[ONNX Layer: c0/mm]", -1],
        ["Reformatting CopyNode for c1", "Reformatting CopyNode for c1", 1],
    ]
    assert us == [[500.0, 250.0]] * 5 and len(laps) == 5 and raw.endswith("raw.json")
    session.close()
    assert cuda.stack == 1
    for call in ended:
        call()
    assert cuda.stack == 0  # pycuda aborts otherwise


def test_an_output_whose_size_depends_on_values_is_refused(monkeypatch, ended) -> None:
    class Dynamic(CudaEngine):
        shapes = {"x": (1, 4), "y": (-1, 3)}

    engine = open_engine(monkeypatch, make_tensorrt(True, True, Dynamic), Cuda())
    with pytest.raises(RunnerError, match="output y depends on values"):
        engine.build(b"model", {"x": np.zeros((1, 4), np.float32)})


def test_a_machine_without_a_gpu_is_told_in_one_line(monkeypatch, ended) -> None:
    with pytest.raises(RunnerError, match="no GPU can be used .*no CUDA-capable device"):
        open_engine(monkeypatch, make_tensorrt(True, True), Cuda(count=0))


def test_inputs_and_metadata_of_other_versions() -> None:
    assert fit_input(np.zeros(2, np.float32), 4).dtype == np.float32
    assert fit_input(np.array([True]), 1).dtype == np.bool_
    assert fit_input(np.zeros(2, np.uint16), 2).dtype == np.uint16  # bfloat16's bits
    assert read_metadata("no JSON") == {} and read_metadata("[]") == {}
