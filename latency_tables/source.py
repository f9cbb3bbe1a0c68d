"""The only thing that this package knows of a network: how to ask for probes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .spec import Cell


@dataclass(frozen=True)
class Probe:
    """One network that an engine can build and time.

    module, inputs
        A ``torch.nn.Module`` in eval mode and the tuple of its positional example inputs.
    onnx
        For engines that want it, with every build: the serialized ONNX model. Every ONNX node is
        called ``<operator>/<anything>``, where ``<operator>`` is a key of ``cell_of`` where known.
    cell_of
        Operator (a node of the traced graph) -> name of the cell that owns its time. Operators of
        no cell are not in it.
    sizes
        Cell name -> its widths in this probe, in the order of ``spec.sizes``. A cell that is not
        in this probe (its block was dropped) is missing.
    """

    module: Any
    inputs: tuple[Any, ...]
    onnx: Callable[[], bytes]
    cell_of: Mapping[str, str]
    sizes: Mapping[str, tuple[int, ...]]


class ProbeSource(Protocol):
    """A network to measure in place: its cells, its sizes, "build me a probe with these sizes"."""

    @property
    def name(self) -> str:
        """A short name for progress lines, and a part of the table's provenance."""
        ...

    def cells(self) -> Sequence[Cell]:
        """All cells, in the order of execution."""
        ...

    def sizes(self) -> Mapping[str, Sequence[int]]:
        """Dim name -> the sizes it may take, ascending; the last one is the uncut size."""
        ...

    def removable(self) -> Sequence[str]:
        """Names of the blocks that can be dropped."""
        ...

    def cell_sizes(
        self, sizes: Mapping[str, int], dropped: Sequence[str] = ()
    ) -> Mapping[str, tuple[int, ...]]:
        """Cell name -> its widths at these Dim sizes; cells of dropped blocks are missing."""
        ...

    def probe(self, sizes: Mapping[str, int], dropped: Sequence[str] = ()) -> Probe:
        """The network with Dims cut to these sizes (missing: uncut) and these blocks dropped.

        Weights are of no meaning: only its latency is looked at.
        """
        ...
