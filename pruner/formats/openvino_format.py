"""OpenVINO's intermediate representation, read from ONNX, run by its CPU plugin."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latency_tables.engines import compile_openvino, flush_denormals

from ..errors import PrunerError
from ..graph import to_onnx
from .base import Run, WriteOptions, import_library
from .onnx_format import save_onnx
from .plain_network import PlainNetwork

_METADATA = "msprune"


class OpenVinoFormat:
    """``NAME.xml`` with its weights in ``NAME.bin``.

    fp16 compresses the weights, and the device computes in what it likes; int8 is static
    quantization by NNCF.
    """

    name = "openvino"
    suffixes: tuple[str, ...] = (".xml",)
    precisions: tuple[str, ...] = ("fp32", "fp16", "int8")
    frees_batch = True

    def write(self, network: PlainNetwork, options: WriteOptions, file: Path) -> None:
        """Write the model, its metadata in ``rt_info`` under ``msprune``."""
        openvino = import_library("openvino", self.name)
        if options.precision == "int8":
            _import_nncf()
        proto = to_onnx(network.module, network.inputs, dynamic_batch=network.free_batch)
        source = file.with_suffix(".onnx")
        try:
            save_onnx(proto, source, {})
            model = openvino.Core().read_model(str(source))
        except RuntimeError as error:
            raise PrunerError(f"OpenVINO refuses the network: {error}") from error
        finally:
            for path in (source, source.with_name(f"{source.name}.data")):
                path.unlink(missing_ok=True)
        if options.precision == "int8":
            model = _quantize(model, options.calibration)
        for key, value in options.metadata.items():
            model.set_rt_info(value, [_METADATA, key])
        openvino.save_model(model, str(file), compress_to_fp16=options.precision == "fp16")

    def open(self, file: Path, threads: int) -> Run:
        """Compile it for the CPU as `latency_tables` times it: one stream, computing in fp32."""
        openvino = import_library("openvino", self.name)
        compiled = compile_openvino(openvino.Core(), str(file), threads)
        request = compiled.create_infer_request()

        def run(values: Sequence[Tensor]) -> list[Tensor]:
            feed = [np.ascontiguousarray(value.detach().cpu().numpy()) for value in values]
            with flush_denormals():
                results = request.infer(feed, share_inputs=True)
            return [torch.from_numpy(np.array(results[port])) for port in compiled.outputs]

        return run

    def name_runtime(self) -> str:
        """Return ``OpenVINO 2024.0``."""
        return f"OpenVINO {importlib.metadata.version('openvino')}"


def _import_nncf() -> Any:
    return import_library("nncf", "openvino --precision int8", extra="nncf")


def _quantize(model: Any, calibration: Sequence[tuple[Tensor, ...]]) -> Any:
    nncf = _import_nncf()
    feeds = [[np.ascontiguousarray(x.detach().cpu().numpy()) for x in row] for row in calibration]
    return nncf.quantize(model, nncf.Dataset(feeds), subset_size=len(feeds))
