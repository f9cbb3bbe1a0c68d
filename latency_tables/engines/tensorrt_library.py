"""TensorRT's Python module: ``tensorrt``, or TensorRT-RTX, which has the same interface."""

import ctypes
import functools
import importlib
import importlib.util
from pathlib import Path
from typing import Any

from ..errors import UnknownEngineError

_RTX_BINDINGS = ("tensorrt_rtx", "tensorrt_rtx_bindings")
# The wheel that brings TensorRT-RTX's libraries, and their names in the order of dependence.
_RTX_FOLDER = "onnxruntime_ep_nv_tensorrt_rtx"
_RTX_LIBRARIES = ("libtensorrt_rtx.so", "libtensorrt_onnxparser_rtx.so")


@functools.lru_cache(maxsize=1)
def load_tensorrt() -> tuple[str, Any]:
    """Import ``tensorrt``, or the module of TensorRT-RTX, whose name then is "tensorrt-rtx".

    Raises:
        UnknownEngineError: Neither can be loaded; it says why and what to install.
    """
    reasons = []
    try:
        return "tensorrt", importlib.import_module("tensorrt")
    except (ImportError, OSError) as error:  # OSError: the wheel without its libraries
        reasons.append(f"tensorrt: {error}")
    for name in _RTX_BINDINGS:
        if importlib.util.find_spec(name) is None:
            continue
        try:
            _load_libraries()
            return "tensorrt-rtx", importlib.import_module(name)
        except (ImportError, OSError) as error:
            reasons.append(f"{name}: {error}")
    raise UnknownEngineError(
        f"engine 'tensorrt' finds no TensorRT ({'; '.join(reasons)}); "
        'pip install "msprune[tensorrt]" where NVIDIA\'s libraries are at hand, or '
        'pip install "msprune[tensorrt-rtx]"'
    )


def _load_libraries() -> None:
    """Load the libraries that the bindings are linked to from the wheel that carries them.

    The linker takes a library that is already loaded under the name asked for (its soname), so
    neither ``LD_LIBRARY_PATH`` nor links are needed.
    """
    spec = importlib.util.find_spec(_RTX_FOLDER)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for library in _RTX_LIBRARIES:
            for file in sorted(Path(folder).glob(f"{library}*"))[-1:]:
                ctypes.CDLL(str(file), ctypes.RTLD_GLOBAL)
