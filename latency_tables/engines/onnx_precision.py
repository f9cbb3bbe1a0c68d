"""ONNX models in other precisions: half ones by casting, int8 by post-training quantization."""

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..source import Probe

HALF = ("fp16", "bf16")
# Inputs that ONNX wants in single precision whatever the rest is in: operator -> positions.
_SINGLE_INPUTS = {"Resize": (1, 2), "Upsample": (1,)}
# What TensorRT is asked to run in int8; constants of other operators it refuses to dequantize.
_SYMMETRIC_OPERATORS = ["Conv", "ConvTranspose", "Gemm", "MatMul", "MaxPool"]


def export_model(probe: Probe, precision: str, *, symmetric: bool = False) -> bytes:
    """Export a probe to ONNX: as it is for fp32, cast or quantized (``quantize_model``) otherwise.

    The ranges of a quantized one come from the probe's own example inputs.
    """
    import onnx

    model = probe.onnx()
    if precision in HALF:
        return cast_model(model, precision)
    if precision == "int8":
        names = [i.name for i in onnx.load_model_from_string(model).graph.input]
        arrays = [x.detach().cpu().numpy() for x in probe.inputs]
        return quantize_model(model, [dict(zip(names, arrays, strict=True))], symmetric=symmetric)
    return model


def cast_model(model: bytes, precision: str) -> bytes:
    """Cast all that is fp32 in the model, its inputs and outputs included, to fp16 or bf16."""
    import onnx
    from onnx import TensorProto

    kind = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}[precision]
    proto = onnx.load_model_from_string(model)
    graph = proto.graph
    single = {
        node.input[position]
        for node in graph.node
        for position in _SINGLE_INPUTS.get(node.op_type, ())
        if position < len(node.input)
    }
    for tensor in graph.initializer:
        if tensor.name not in single:
            _cast_tensor(tensor, kind)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR and not single & set(node.output):
                _cast_tensor(attribute.t, kind)
            if node.op_type == "Cast" and attribute.name == "to":
                attribute.i = kind if attribute.i == TensorProto.FLOAT else attribute.i
    del graph.value_info[:]  # for the parser to infer anew
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = kind
    return bytes(proto.SerializeToString())


def _cast_tensor(tensor: Any, kind: int) -> None:
    from onnx import TensorProto, numpy_helper

    if tensor.data_type != TensorProto.FLOAT:
        return
    values = numpy_helper.to_array(tensor)
    tensor.ClearField("float_data")
    tensor.raw_data = (
        values.astype(np.float16).tobytes()
        if kind == TensorProto.FLOAT16
        else to_bf16(values).tobytes()
    )
    tensor.data_type = kind


def to_bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round single-precision numbers to bfloat16's bits, to the nearest even."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def quantize_model(
    model: bytes, feeds: Sequence[Mapping[str, NDArray[Any]]], *, symmetric: bool = False
) -> bytes:
    """Quantize weights and activations to int8, as Q/DQ pairs that engines fuse.

    Post-training static quantization by ``onnxruntime.quantization``, weights by channel.

    Args:
        model: The serialized ONNX model, in fp32.
        feeds: Inputs by name that the ranges of the activations are taken from. For timing any
            will do.
        symmetric: Signed activations around zero, as TensorRT wants them; otherwise unsigned with
            a zero point, for which x86 processors have the faster instructions.
    """
    import onnxruntime
    from onnxruntime import quantization as q

    class FeedReader(q.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left: Iterator[Mapping[str, NDArray[Any]]] = iter(feeds)

        def get_next(self) -> Any:
            return next(self._left, None)

    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it advises to preprocess, which the exporter has done
    onnxruntime.set_default_logger_severity(3)
    try:
        with tempfile.TemporaryDirectory(prefix="latency_tables_") as folder:
            source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
            source.write_bytes(model)
            q.quantize_static(
                source,
                target,
                FeedReader(),
                quant_format=q.QuantFormat.QDQ,
                activation_type=q.QuantType.QInt8 if symmetric else q.QuantType.QUInt8,
                weight_type=q.QuantType.QInt8,
                op_types_to_quantize=_SYMMETRIC_OPERATORS if symmetric else None,
                per_channel=True,
                extra_options={
                    "ActivationSymmetric": symmetric,
                    "WeightSymmetric": True,
                    "QuantizeBias": not symmetric,  # TensorRT takes no int32 biases
                },
            )
            return target.read_bytes()
    finally:
        logger.setLevel(level)
        onnxruntime.set_default_logger_severity(2)  # its default
