"""ExecuTorch's programs for its XNNPACK kernels; they carry no metadata."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from .base import CannotRunError, Run, WriteOptions, import_library
from .plain_network import PlainNetwork


class ExecuTorchFormat:
    """A program for phones' and embedded processors, with the example's batch."""

    name = "executorch"
    suffixes: tuple[str, ...] = (".pte",)
    precisions: tuple[str, ...] = ("fp32",)
    frees_batch = False

    def write(self, network: PlainNetwork, options: WriteOptions, file: Path) -> None:
        """Lower the exported program, what XNNPACK has to it, and the rest to portable kernels."""
        exir = import_library("executorch.exir", self.name)
        xnnpack = import_library(
            "executorch.backends.xnnpack.partition.xnnpack_partitioner", self.name
        )
        edge = exir.to_edge_transform_and_lower(
            network.export(), partitioner=[xnnpack.XnnpackPartitioner()]
        )
        file.write_bytes(edge.to_executorch().buffer)

    def open(self, file: Path, threads: int) -> Run:
        """Load the program's one method; it uses as many threads as it likes."""
        try:
            from executorch.runtime import Runtime
        except ImportError as error:
            raise CannotRunError(f"ExecuTorch's runtime is missing ({error})") from error
        program = Runtime.get().load_program(file)
        method = program.load_method("forward")

        def run(values: Sequence[Tensor], _: object = program) -> list[Tensor]:
            results = method.execute([x.detach().contiguous() for x in values])
            return [torch.as_tensor(result).clone() for result in results]

        return run

    def name_runtime(self) -> str:
        """Return ``ExecuTorch 1.0.0``."""
        return f"ExecuTorch {importlib.metadata.version('executorch')}"
