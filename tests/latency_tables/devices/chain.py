"""A chain of matrix products as ONNX, and an engine that stands in for ONNX Runtime over there.

The stand-in's latencies follow from a network's widths alone, on a clock of its own: what comes
back is known to the digit, however busy the machine is. It is a test's device, never a product's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from onnx import TensorProto, helper, numpy_helper

from latency_tables import Cell, LayerSpec, Probe

STAND_IN = '''
"""Stands in for ONNX Runtime: latency is a formula of the network's size, on a clock of its own."""
import json, re, time
__version__ = "1.0"
SPEED = {speed}      # of this device: milliseconds are multiplied by it
SLEEP = {sleep}      # seconds that building a network really takes
_clock = [0]
time.perf_counter_ns = lambda: _clock[0]
time.process_time_ns = lambda: _clock[0]
time.perf_counter = lambda: _clock[0] / 1e9
class ExecutionMode:
    ORT_SEQUENTIAL = 0
class SessionOptions:
    enable_profiling = False
    profile_file_prefix = ""
    def add_session_config_entry(self, name, value):
        pass
class InferenceSession:
    def __init__(self, model, options, providers):
        time.sleep(SLEEP)
        self.options, self.runs = options, 0
        self.cells = [c.decode() for c in dict.fromkeys(re.findall(rb"(c[0-9]+)/mm", model))]
        self.us = int(SPEED * (100 + len(model) / 100))
    def run(self, names, feed):
        _clock[0] += self.us * 1000
        self.runs += 1
    def end_profiling(self):
        events = []
        for _ in range(self.runs):
            for cell in self.cells:
                events.append({{"cat": "Node", "name": cell + "/mm_kernel_time",
                                "dur": self.us // (len(self.cells) + 1)}})
            events.append({{"name": "model_run", "dur": self.us}})
        path = self.options.profile_file_prefix + "_1.json"
        with open(path, "w") as file:
            json.dump(events, file)
        return path
'''


def stand_in(speed: float = 1.0, sleep: float = 0.0) -> str:
    return STAND_IN.format(speed=speed, sleep=sleep)


@dataclass
class ChainSource:
    """Layers c0, c1, ... between Dims d0, d1, ..., of ``least`` to ``widest``."""

    name: str = "chain"
    dims: int = 4
    widest: int = 64
    least: int = 8
    built: list[dict[str, int]] = field(default_factory=list)

    def sizes(self) -> Mapping[str, Sequence[int]]:
        return {f"d{i}": tuple(range(self.least, self.widest + 1, 8)) for i in range(1, self.dims)}

    def cells(self) -> Sequence[Cell]:
        return [
            Cell(f"c{i}", LayerSpec("linear", ("in_features", "out_features"), (("rows", i),)),
                 (f"d{i}", f"d{i + 1}"), (self.widest, self.widest))
            for i in range(self.dims - 1)
        ]  # fmt: skip

    def removable(self) -> Sequence[str]:
        return ()

    def cell_sizes(
        self, sizes: Mapping[str, int], dropped: Sequence[str] = ()
    ) -> dict[str, tuple[int, ...]]:
        width = {f"d{i}": self.widest for i in range(self.dims)} | dict(sizes)
        return {cell.name: tuple(width[dim] for dim in cell.dims) for cell in self.cells()}

    def probe(self, sizes: Mapping[str, int], dropped: Sequence[str] = ()) -> Probe:
        self.built.append(dict(sizes))
        widths = self.cell_sizes(sizes, dropped)
        x = torch.zeros(1, self.widest)
        operators = {name: name for name in widths}
        return Probe(None, (x,), lambda: write_chain(widths), operators, widths)


def write_chain(widths: Mapping[str, tuple[int, ...]]) -> bytes:
    random, nodes, weights, value = np.random.default_rng(0), [], [], "x"
    for name, shape in widths.items():
        array = random.standard_normal(shape).astype(np.float32)
        weights.append(numpy_helper.from_array(array, f"{name}.weight"))
        nodes.append(helper.make_node("MatMul", [value, f"{name}.weight"], [f"{name}/y"],
                                      f"{name}/mm"))  # fmt: skip
        value = f"{name}/y"
    shapes = list(widths.values())
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, shapes[0][0]])]
    outputs = [helper.make_tensor_value_info(value, TensorProto.FLOAT, [1, shapes[-1][1]])]
    graph = helper.make_graph(nodes, "chain", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model.SerializeToString()


def expected_ms(source: ChainSource, sizes: Mapping[str, int], speed: float = 1.0) -> float:
    """What the stand-in takes for a structure."""
    model = write_chain(source.cell_sizes(sizes))
    return int(speed * (100 + len(model) / 100)) / 1e3
