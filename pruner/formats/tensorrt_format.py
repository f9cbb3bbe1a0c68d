"""TensorRT's engine files, built by `latency_tables`' engine; they carry no metadata."""

from __future__ import annotations

from pathlib import Path

import latency_tables
from latency_tables.engines import quantize_model

from ..errors import PrunerError
from ..graph import to_onnx
from .base import CannotRunError, Run, WriteOptions
from .plain_network import PlainNetwork


class TensorRtFormat:
    """A built engine, for one kind of GPU and one version of TensorRT, with the example's batch."""

    name = "tensorrt"
    suffixes: tuple[str, ...] = (".engine", ".plan", ".trt")
    precisions: tuple[str, ...] = ("fp32", "fp16", "int8")
    frees_batch = False

    def write(self, network: PlainNetwork, options: WriteOptions, file: Path) -> None:
        """Build for the GPU that is here, or for the target."""
        precision = options.precision
        engine = latency_tables.engine(
            "tensorrt", precision="fp32" if precision == "int8" else precision
        )
        if options.target is None:
            try:
                _ = engine.device
            except latency_tables.LatencyError as error:
                raise PrunerError(
                    "--format tensorrt builds for one kind of GPU, and none is here: give its "
                    "compute capability, --target SM89 for 8.9"
                ) from error
        data = to_onnx(network.module, network.inputs).SerializeToString()
        if precision == "int8":
            names = network.input_names
            rows = [{k: x.numpy() for k, x in zip(names, row)} for row in options.calibration]
            data = quantize_model(data, rows, symmetric=True)
        probe = latency_tables.Probe(network.module, network.inputs, lambda: data, {}, {})
        file.write_bytes(engine.plan(probe, options.target))  # type: ignore[attr-defined]

    def open(self, file: Path, threads: int) -> Run:
        """Say that it cannot be compared here."""
        raise CannotRunError(
            "the answers of built engines are not compared; on its kind of GPU, "
            "trtexec --loadEngine runs it"
        )

    def name_runtime(self) -> str:
        """Return ``TensorRT``."""
        return "TensorRT"
