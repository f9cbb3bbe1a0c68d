"""What a file format is: it writes a network to a file, and opens the file with its runtime."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from ..errors import PrunerError
from .plain_network import PlainNetwork

Run = Callable[[Sequence[Tensor]], list[Tensor]]
"""A file run by its maker's runtime: input tensors in the file's order to output tensors."""


class CannotRunError(PrunerError):
    """What was written cannot be run on this machine; the message says why."""


@dataclass(frozen=True)
class WriteOptions:
    """What a file is to be besides the network in it.

    Attributes:
        precision: ``fp32``, ``fp16`` or ``int8``.
        calibration: Inputs, as the network takes them, from which the ranges of int8 are taken.
        metadata: Texts by name that the file carries, where its format has a place for them.
        target: The GPU that TensorRT builds for where none is here, such as ``SM89``.
    """

    precision: str = "fp32"
    calibration: Sequence[tuple[Tensor, ...]] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    target: str | None = None


class Format(Protocol):
    """One kind of file. Its maker's library is imported only when it writes or opens."""

    @property
    def name(self) -> str:
        """What ``find_format`` finds it by."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Endings of its files' names; the first is that of a file that is not named."""

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions that it is written in here."""

    @property
    def frees_batch(self) -> bool:
        """Whether a file may take any batch."""

    def write(self, network: PlainNetwork, options: WriteOptions, file: Path) -> None:
        """Write a network; other files that belong to it stand beside it, named after it.

        Raises:
            PrunerError: The library is missing, or the format cannot hold the network.
        """

    def open(self, file: Path, threads: int) -> Run:
        """Load a file that `write` wrote.

        Raises:
            CannotRunError: This machine has no runtime for it.
        """

    def name_runtime(self) -> str:
        """Return the runtime's name and version, for people."""


def import_library(module: str, form: str, extra: str | None = None) -> Any:
    """Import a format's library; PrunerError with the line that installs it where it is missing.

    extra is what ``pip`` installs it by, where that is not the format's name.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = module.partition(".")[0].replace("_", "-")
        raise PrunerError(
            f"--format {form} needs {missing}, which cannot be imported "
            f'({" ".join(str(error).split())}): pip install "msprune[{extra or form}]"'
        ) from error
