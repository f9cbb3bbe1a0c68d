"""Runs networks: what an engine is, one engine a file, and the stopwatch and settings of a run.

Each engine imports its library only when it is made (``engine``).
"""

from .base import Engine, Lap, Profile, Session, Step
from .kernel_names import find_onnx_layers, find_operators, find_output_operators
from .onnx_precision import export_model
from .registry import engine, engine_names

__all__ = [
    "Engine", "Lap", "Profile", "Session", "Step", "engine", "engine_names", "export_model",
    "find_onnx_layers", "find_operators", "find_output_operators",
]  # fmt: skip
