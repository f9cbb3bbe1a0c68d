"""Traces the model of a run, or its parts, and says what can be traced where it cannot."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..errors import PrunerError, TraceError, first_line
from ..models import DenseModel, Example, capture_arguments, find_parts
from ..structure import Network, trace, trace_parts
from .config import list_parts

PartCall = tuple[nn.Module, Example]
"""A part of a model and the arguments of a call of it."""


def find_calls(
    dense: DenseModel, example: Example, given: str, paths: tuple[str, ...]
) -> dict[str, PartCall]:
    """Return the parts that are to be pruned by their dotted names, and what they are called with.

    Args:
        dense: The model.
        example: The arguments of a call of the whole.
        given: The input in words, for messages.
        paths: The parts' dotted names; () for all of the model, whose name here is "".

    Raises:
        PrunerError: There is no such part, one lies within another, or one does not take the input.
    """
    module = dense.module
    found = {}
    for path, part in (find_parts(module, paths) or {"": module}).items():
        call = capture_arguments(module, path, example) if path else example
        try:
            with torch.no_grad():
                part(*call.args, **call.kwargs)
        except Exception as error:  # whatever the user's network raises
            name = f"{dense.name}, its {path}" if path else dense.name
            raise PrunerError(
                f"{name} does not take an input of {given} (give --input): "
                f"{first_line(error, with_kind=False)}"
            ) from error
        found[path] = (part, call)
    return found


def join_calls(calls: Mapping[str, PartCall]) -> Example:
    """Return the arguments of the network that `trace_calls` makes."""
    if len(calls) == 1:
        ((_, example),) = calls.values()
        return example
    return Example(tuple((call.args, dict(call.kwargs)) for _, call in calls.values()))


def trace_calls(calls: Mapping[str, PartCall], name: str) -> Network:
    """Trace a model, or its parts as one Network.

    Raises:
        TraceError: It cannot be traced; parts are named that can.
    """
    if "" not in calls:
        name = f"{name}, its {' and '.join(calls)}"
    if len(calls) > 1:
        return trace_parts({k: (m, c.args, c.kwargs) for k, (m, c) in calls.items()}, name=name)
    ((path, (part, call)),) = calls.items()
    try:
        return trace(part, call.args, call.kwargs, name=name)
    except TraceError as error:
        if not path:
            raise
        raise TraceError(f"{path}: {error} (every NAME is one below {path})") from error


def read_parts(identity: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the parts that a RUN is of, () for a whole model."""
    return list_parts(identity.get("submodule"))
