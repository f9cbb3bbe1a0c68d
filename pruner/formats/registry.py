"""Formats by name."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import PrunerError
from ..utils import suggest_names
from .base import Format
from .coreml_format import CoreMlFormat
from .executorch_format import ExecuTorchFormat
from .litert_format import LiteRtFormat
from .onnx_format import OnnxFormat
from .openvino_format import OpenVinoFormat
from .pt2_format import Pt2Format
from .tensorrt_format import TensorRtFormat
from .torchscript_format import TorchScriptFormat

_FORMATS: tuple[Callable[[], Format], ...] = (
    OnnxFormat, OpenVinoFormat, Pt2Format, TorchScriptFormat, TensorRtFormat, CoreMlFormat,
    LiteRtFormat, ExecuTorchFormat,
)  # fmt: skip


FOLDER_FORMAT = "hf"
"""What the verb export writes as a folder for the transformers library, and no `Format` does."""


def format_names() -> tuple[str, ...]:
    """List the names of all formats, whether or not their libraries are installed."""
    return (*(make().name for make in _FORMATS), FOLDER_FORMAT)


def find_format(name: str, precision: str = "fp32") -> Format:
    """Return the format of a name.

    Raises:
        PrunerError: There is none, or it is not written in this precision.
    """
    found = {form.name: form for form in (make() for make in _FORMATS)}
    if name not in found:
        hint = suggest_names(name, format_names())
        known = ", ".join(format_names())
        raise PrunerError(
            f"--format: expected one of {known}, got {name!r}" + (f": {hint}" if hint else "")
        )
    if precision not in found[name].precisions:
        known = ", ".join(found[name].precisions)
        raise PrunerError(f"--precision: --format {name} is written in {known}, not {precision!r}")
    return found[name]
