"""ONNX models without the weights that can be made anew from shape and seed."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from .runner.models import TYPES, to_kind

# ONNX's numbers of the types of inputs -> numpy's names; bfloat16 as its bits.
_NAMES = {**TYPES, 5: "int16", 6: "int32", 7: "int64", 9: "bool"}
_LEAST_BYTES = 1024  # smaller ones are shapes, scalars and short biases: they go along
# What compresses better than this is no random weight but a mask, a table of indices, a constant.
_RANDOM = 0.5
_SAMPLE = 1 << 16  # bytes of a large one that are looked at
_MOST_BYTES = 2**31 - 1  # of a protobuf message


def pack_model(model: bytes, inputs: Sequence[NDArray[Any]], with_weights: bool = False) -> bytes:
    """Encode a model for a bundle: a line of JSON, and the ONNX bytes, compressed.

    Weights of no meaning, which are those whose bytes look random, are left out: their shapes and
    what their values spread about go into the line, and the runner makes them. So are inputs.
    Equal arguments give equal bytes.

    Raises:
        EngineError: The model is too large for one file, or takes an input of another type.
    """
    import onnx

    if len(model) > _MOST_BYTES:
        raise EngineError("the network's ONNX file is larger than 2 GiB: prune a part of it")
    proto = onnx.load_model_from_string(model)
    made = [] if with_weights else _take_weights(proto)
    facts = [
        _describe_input(value, array)
        for value, array in zip(proto.graph.input, inputs, strict=True)
    ]
    line = json.dumps({"weights": made, "inputs": facts}, separators=(",", ":"))
    data = proto.SerializeToString(deterministic=True)
    return gzip.compress(line.encode() + b"\n" + data, 9, mtime=0)


def _take_weights(proto: Any) -> list[list[Any]]:
    """Remove the weights that the runner makes, in place; list what they are made from."""
    from onnx import numpy_helper

    made, kept = [], []
    for seed, tensor in enumerate(proto.graph.initializer):
        facts = None
        if tensor.data_type in TYPES:
            facts = _describe_values(numpy_helper.to_array(tensor))
        if facts is None:
            kept.append(tensor)
        else:
            made.append([tensor.name, list(tensor.dims), tensor.data_type, *facts, seed])
    kept = [type(tensor).FromString(tensor.SerializeToString()) for tensor in kept]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    return made


def _describe_values(array: NDArray[Any]) -> tuple[str, float, float] | None:
    """Describe how like values are made: kind and two numbers; None: these very values count.

    Signed numbers are made about their mean, those of one sign within their range: a variance or a
    scale stays as far from zero as it was.
    """
    raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    if len(raw) < _LEAST_BYTES or _compress_share(raw) < _RANDOM:
        return None
    values: NDArray[Any] = array if array.dtype == np.float32 else array.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite((low, high)).all():
        return None
    if array.dtype.kind in "iu":
        return "whole", low, high
    if low >= 0 or high <= 0:
        return "uniform", low, high
    return "normal", float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))


def _compress_share(raw: NDArray[np.uint8]) -> float:
    """Compute what share of the bytes compression leaves, of large arrays by four places."""
    part = _SAMPLE // 4
    starts = range(0, len(raw) - part, (len(raw) - part) // 3) if len(raw) > _SAMPLE else ()
    sample = b"".join(raw[s : s + part].tobytes() for s in starts) or raw.tobytes()
    return len(zlib.compress(sample, 1)) / len(sample)


def _describe_input(value: Any, array: NDArray[Any]) -> dict[str, Any]:
    """Describe an input: values of no meaning by what they spread about, others as they are."""
    kind = _NAMES.get(value.type.tensor_type.elem_type)
    if kind is None:
        raise EngineError(f"input {value.name} has a type that a bundle cannot hold")
    facts: dict[str, Any] = {"name": value.name, "shape": list(array.shape), "kind": kind}
    found = _describe_values(array) if array.dtype.kind == "f" else None
    if found is not None:
        how, low, high = found
        return {**facts, "data": None, "how": how, "low": low, "high": high}
    raw = to_kind(array, kind).tobytes()
    return {**facts, "data": base64.b64encode(gzip.compress(raw, 9, mtime=0)).decode()}
