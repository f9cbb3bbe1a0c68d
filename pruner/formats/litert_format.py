"""LiteRT (TensorFlow Lite), by litert-torch, run by its interpreter; it carries no metadata."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .base import CannotRunError, Run, WriteOptions, import_library
from .plain_network import PlainNetwork


class LiteRtFormat:
    """A flatbuffer for Android and embedded devices, with the example's batch."""

    name = "litert"
    suffixes: tuple[str, ...] = (".tflite",)
    precisions: tuple[str, ...] = ("fp32",)
    frees_batch = False

    def write(self, network: PlainNetwork, options: WriteOptions, file: Path) -> None:
        """Convert the network."""
        library = import_library("litert_torch", self.name)
        library.convert(network.module, network.inputs).export(str(file))

    def open(self, file: Path, threads: int) -> Run:
        """Load it into the interpreter."""
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise CannotRunError(f"LiteRT's interpreter is missing ({error})") from error
        interpreter = Interpreter(str(file), num_threads=threads)
        interpreter.allocate_tensors()
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()

        def run(values: Sequence[Tensor]) -> list[Tensor]:
            for one, value in zip(inputs, values, strict=True):
                interpreter.set_tensor(one["index"], np.ascontiguousarray(value.detach().numpy()))
            interpreter.invoke()
            return [torch.from_numpy(interpreter.get_tensor(one["index"])) for one in outputs]

        return run

    def name_runtime(self) -> str:
        """Return ``LiteRT 2.3.0``."""
        return f"LiteRT {importlib.metadata.version('ai-edge-litert')}"
