"""Runs networks: what an engine is, one engine a file, and the stopwatch and settings of a run.

Each engine imports its library only when it is made (``engine``).
"""

from .availability import EngineAvailability, list_engines
from .base import Engine, Lap, Profile, Runnable, Session, Step, time_call
from .cuda import describe_gpu, open_cuda
from .denormals import flush_denormals
from .kernel_names import find_onnx_layers, find_operators, find_output_operators
from .onnx_precision import cast_model, export_model, quantize_model
from .onnxruntime_engine import open_onnx
from .openvino_engine import compile_openvino
from .registry import engine, engine_names

__all__ = [
    "Engine", "EngineAvailability", "Lap", "Profile", "Runnable", "Session", "Step", "cast_model",
    "compile_openvino", "describe_gpu", "engine", "engine_names", "export_model",
    "find_onnx_layers", "find_operators", "find_output_operators", "flush_denormals",
    "list_engines", "open_cuda", "open_onnx", "quantize_model", "time_call",
]  # fmt: skip
