"""Engines by name; each one's library is imported only when it is made."""

import importlib
from typing import Any

from ..errors import UnknownEngineError
from .base import Engine

# Name -> (module, class). The modules import their engine's library when a class is made.
_ENGINES = {
    "onnxruntime": ("onnxruntime_engine", "OnnxRuntimeEngine"),
    "openvino": ("openvino_engine", "OpenVinoEngine"),
    "tensorrt": ("tensorrt_engine", "TensorRtEngine"),
    "torch": ("torch_engine", "TorchEngine"),
}


def engine_names() -> tuple[str, ...]:
    """List the engines that ``engine`` knows, whether or not their libraries are installed."""
    return tuple(_ENGINES)


def engine(name: str, *, threads: int = 1, precision: str = "fp32", **options: Any) -> Engine:
    """Make an engine by name.

    Args:
        name: One of ``engine_names()``.
        threads: Threads that one inference may use.
        precision: ``"fp32"``, or what else the engine can run.
        options: Settings that only this engine has.

    Raises:
        UnknownEngineError: It is not known, or its library is missing.
        EngineError: The engine cannot run this setting.
    """
    if name not in _ENGINES:
        raise UnknownEngineError(f"unknown engine {name!r}; known: {', '.join(_ENGINES)}")
    module, attribute = _ENGINES[name]
    try:
        loaded = importlib.import_module(f".{module}", __package__)
        made: Engine = getattr(loaded, attribute)(threads=threads, precision=precision, **options)
    except ImportError as error:
        raise UnknownEngineError(
            f"engine {name!r} needs a library that is not installed ({error}); "
            f"pip install {error.name or name}"
        ) from error
    return made
