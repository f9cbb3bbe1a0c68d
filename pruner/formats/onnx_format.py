"""ONNX, by ``torch.onnx``, run by ONNX Runtime on the CPU."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latency_tables.engines import cast_model, flush_denormals, open_onnx, quantize_model

from ..errors import PrunerError
from ..graph import to_onnx
from .base import Run, WriteOptions, import_library
from .plain_network import PlainNetwork

LARGEST = 2**31 - 2**24
"""Bytes that one file can hold (a limit of protobuf): weights beyond it go to a file beside it."""

LEAST_OUTSIDE = 1024
"""Bytes of a tensor that goes there."""


class OnnxFormat:
    """An ONNX model; of more than 2 GB with its weights in ``NAME.data`` beside it.

    fp16 casts the whole network, inputs and outputs too; int8 is static quantization by ONNX
    Runtime, weights by channel, as pairs of QuantizeLinear and DequantizeLinear.
    """

    name = "onnx"
    suffixes: tuple[str, ...] = (".onnx",)
    precisions: tuple[str, ...] = ("fp32", "fp16", "int8")
    frees_batch = True

    def write(self, network: PlainNetwork, options: WriteOptions, file: Path) -> None:
        """Write the model with its metadata."""
        model = to_onnx(network.module, network.inputs, dynamic_batch=network.free_batch)
        save_onnx(convert_onnx(model, options), file, options.metadata)

    def open(self, file: Path, threads: int) -> Run:
        """Load it as `latency_tables` times it."""
        import_library("onnxruntime", self.name)
        session = open_onnx(str(file), threads)
        inputs = session.get_inputs()

        def run(values: Sequence[Tensor]) -> list[Tensor]:
            feed = {
                one.name: _convert(value, half=one.type == "tensor(float16)")
                for one, value in zip(inputs, values, strict=True)
            }
            with flush_denormals():
                return [torch.from_numpy(np.array(x)) for x in session.run(None, feed)]

        return run

    def name_runtime(self) -> str:
        """Return ``ONNX Runtime 1.17.0``."""
        return f"ONNX Runtime {importlib.metadata.version('onnxruntime')}"


def _convert(value: Tensor, half: bool) -> Any:
    array = np.ascontiguousarray(value.detach().cpu().numpy())
    return array.astype(np.float16) if half else array


def convert_onnx(model: Any, options: WriteOptions) -> Any:
    """Return an ONNX model in the precision of the options."""
    import onnx

    if options.precision == "fp32":
        return model
    if count_bytes(model) > LARGEST:
        raise PrunerError(
            f"--precision {options.precision}: the network has more than 2 GB; use fp32"
        )
    data = model.SerializeToString()
    if options.precision == "fp16":
        return onnx.load_model_from_string(cast_model(data, "fp16"))
    names = [value.name for value in model.graph.input]
    feeds = [
        dict(zip(names, (_convert(x, False) for x in inputs), strict=True))
        for inputs in options.calibration
    ]
    return onnx.load_model_from_string(quantize_model(data, feeds))


def count_bytes(model: Any) -> int:
    """Return how many bytes the weights of an ONNX model take."""
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)


def save_onnx(model: Any, file: Path, metadata: Any) -> None:
    """Write an ONNX model with texts by name in its ``metadata_props``."""
    import onnx

    onnx.helper.set_model_props(model, {f"msprune.{k}": v for k, v in metadata.items()})
    if count_bytes(model) <= LARGEST:
        onnx.save_model(model, file)
        return
    onnx.save_model(
        model, file, save_as_external_data=True, all_tensors_to_one_file=True,
        location=f"{file.name}.data", size_threshold=LEAST_OUTSIDE,
    )  # fmt: skip
