"""Timing changes how the processor computes, and changes it back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import latency_tables
from latency_tables import Probe
from latency_tables.engines.denormals import flush_denormals

# In a process of its own: what ONNX Runtime does to its caller, its first session does.
_SCRIPT = """
import importlib.util, sys
import numpy as np
import latency_tables
from tests.latency_tables.nets import tiny

if importlib.util.find_spec(sys.argv[1]) is None:
    sys.exit(77)
session = latency_tables.engine(sys.argv[1]).build(tiny().probe({}))
session.run()
session.profile(2)
assert np.finfo(np.float32).tiny * np.float32(0.5) > 0, "denormal numbers are zero"
"""


def half_of_the_smallest() -> np.float32:
    return np.finfo(np.float32).tiny * np.float32(0.5)


def test_denormal_numbers_are_zero_within_and_as_before_afterwards():
    torch.set_flush_denormal(False)  # whatever ran in this thread before
    assert half_of_the_smallest() > 0
    with pytest.raises(KeyError), flush_denormals():
        assert half_of_the_smallest() == 0
        with flush_denormals():
            pass
        assert half_of_the_smallest() == 0
        raise KeyError
    assert half_of_the_smallest() > 0


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "torch"])
def test_an_engine_leaves_its_callers_arithmetic_alone(name):
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, name], cwd=root, capture_output=True, text=True
    )
    if done.returncode == 77:
        pytest.skip(f"{name} is not installed")
    assert done.returncode == 0, done.stderr


def test_openvino_takes_denormal_numbers_as_zeros():
    pytest.importorskip("openvino")
    engine = latency_tables.engine("openvino")
    assert "denormals as zero" in str(engine.device)
    weights = onnx.numpy_helper.from_array(np.full((4, 4, 1, 1), 1e-20, np.float32), "w")
    shape = [1, 4, 8, 8]
    values = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, shape) for n in "xy"]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["x", "w"], ["y"], name="conv")],
        *("faint", values[:1], values[1:], [weights]),
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    faint, plain = (torch.full(shape, value) for value in (1e-20, 1e-10))
    for x, expected in ((plain, 4e-30), (faint, 0.0)):
        probe = Probe(None, (x,), model.SerializeToString, {"conv": "conv"}, {})
        session = engine.build(probe)
        session.run()
        result = np.array(session._request.get_output_tensor(0).data)
        assert result == pytest.approx(np.full(shape, expected), rel=1e-4, abs=0)
        session.close()
