"""What a stored network may call: operators and arithmetic by their names, and nothing else."""

import importlib
import operator
from collections.abc import Callable
from typing import Any

import torch

from ..errors import PrunerError
from ..graph import computes_alone, is_operator

DEVICE = "device"  # the one attribute of a tensor that a graph reads
EXTENSIONS = tuple(
    f"torchvision.{name}.default"
    for name in ("deform_conv2d", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "nms")
)
"""Operators of other packages, which register them when they are imported, that may be called."""
_ARITHMETIC = {
    name: getattr(operator, name)
    for name in ("getitem", "mul", "add", "sub", "floordiv", "truediv", "mod", "neg", "pow",
                 "eq", "ne", "lt", "le", "gt", "ge")
}  # fmt: skip


def encode_operator(target: Any) -> str:
    """Return the name of an ATen operator or of arithmetic; raise PrunerError for any other."""
    if is_operator(target) and target.namespace == "aten":
        return str(target)
    if target is getattr:
        return f"operator.{DEVICE}"
    if str(target) in EXTENSIONS:
        return str(target)
    name = getattr(target, "__name__", "")
    if _ARITHMETIC.get(name) is target:
        return f"operator.{name}"
    raise PrunerError(f"cannot store a call of {target}: no ATen operator and no arithmetic")


def decode_operator(name: str) -> Callable[..., Any]:
    """Return the operator of a name; raise PrunerError where it is not allowed."""
    family, _, rest = name.partition(".")
    if name == f"operator.{DEVICE}":
        return getattr
    if family == "operator" and rest in _ARITHMETIC:
        return _ARITHMETIC[rest]  # type: ignore[no-any-return]
    packet, _, overload = rest.rpartition(".")
    if name in EXTENSIONS:
        try:
            importlib.import_module(family)
        except ImportError as error:
            raise PrunerError(f"the stored network calls {name!r}: install {family}") from error
    elif family != "aten" or not (packet.isidentifier() and overload.isidentifier()):
        raise PrunerError(f"the stored network calls {name!r}, which is not allowed")
    try:
        found: Any = getattr(getattr(getattr(torch.ops, family), packet), overload)
    except (AttributeError, RuntimeError) as error:
        raise PrunerError(
            f"the stored network calls {name!r}, which torch {torch.__version__} does not have"
        ) from error
    if not is_operator(found) or not computes_alone(found):
        raise PrunerError(f"the stored network calls {name!r}, which is not allowed")
    return found  # type: ignore[no-any-return]
