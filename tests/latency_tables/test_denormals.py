"""Timing changes how the processor computes, and changes it back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from latency_tables.denormals import denormals_as_zero

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
    assert half_of_the_smallest() > 0
    with pytest.raises(KeyError), denormals_as_zero():
        assert half_of_the_smallest() == 0
        with denormals_as_zero():
            pass
        assert half_of_the_smallest() == 0
        raise KeyError
    assert half_of_the_smallest() > 0


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "torch"])
def test_an_engine_leaves_its_callers_arithmetic_alone(name):
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, name], cwd=root, capture_output=True, text=True
    )
    if done.returncode == 77:
        pytest.skip(f"{name} is not installed")
    assert done.returncode == 0, done.stderr
