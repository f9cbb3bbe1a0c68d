"""The archive of ``torch.export.save``, run by torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from .base import Run, WriteOptions
from .plain_network import PlainNetwork

METADATA = "msprune.json"
"""The extra file that holds the metadata, as JSON."""


class Pt2Format:
    """What ``torch.export.load`` reads, and AOTInductor compiles."""

    name = "pt2"
    suffixes: tuple[str, ...] = (".pt2",)
    precisions: tuple[str, ...] = ("fp32", "fp16")
    frees_batch = True

    def write(self, network: PlainNetwork, options: WriteOptions, file: Path) -> None:
        """Write the exported program with its metadata."""
        plain = network.to_half() if options.precision == "fp16" else network
        extra = {METADATA: json.dumps(dict(options.metadata))}
        with open(file, "wb") as stream:  # given a path, it insists on its own ending
            torch.export.save(plain.export(), stream, extra_files=extra)

    def open(self, file: Path, threads: int) -> Run:
        """Load the program as a module."""
        with open(file, "rb") as stream:
            module = torch.export.load(stream).module()
        return make_torch_run(module)

    def name_runtime(self) -> str:
        """Return ``torch 2.6.0``."""
        return f"torch {torch.__version__}"


def make_torch_run(module: torch.nn.Module) -> Run:
    """Return a module of plain tensors as `Run`, its inputs brought to its own precision."""
    half = any(p.dtype == torch.float16 for p in (*module.parameters(), *module.buffers()))

    def run(values: Sequence[Tensor]) -> list[Tensor]:
        with torch.inference_mode():
            results = module(*(x.half() if half and x.is_floating_point() else x for x in values))
        return [results] if isinstance(results, Tensor) else list(results)

    return run
