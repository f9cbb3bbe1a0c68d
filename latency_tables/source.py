"""The only thing that this package knows of a network: how to ask for probes of it."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .spec import Cell


@dataclass(frozen=True)
class Probe:
    """One network that an engine can build and time.

    Attributes:
        module: A ``torch.nn.Module`` in eval mode.
        inputs: Its positional example inputs.
        onnx: For engines that want it, with every build: the serialized ONNX model. Every ONNX
            node is called ``<operator>/<anything>``, where ``<operator>`` is a key of ``cell_of``
            where known.
        cell_of: Operator (a node of the traced graph) -> name of the cell that owns its time.
            Operators of no cell are not in it.
        sizes: Cell name -> its widths in this probe, in the order of ``spec.sizes``. A cell that
            is not in this probe (its block was dropped) is missing.
    """

    module: Any
    inputs: tuple[Any, ...]
    onnx: Callable[[], bytes]
    cell_of: Mapping[str, str]
    sizes: Mapping[str, tuple[int, ...]]

    @property
    def batch(self) -> int:
        """The first axis of the first input; 1 where there is none."""
        shape = tuple(getattr(self.inputs[0], "shape", ())) if self.inputs else ()
        return int(shape[0]) if shape else 1


class ProbeSource(Protocol):
    """A network to measure in place: its cells, its sizes, "build me a probe with these sizes"."""

    @property
    def name(self) -> str:
        """A short name for progress lines, and a part of the table's provenance."""

    def cells(self) -> Sequence[Cell]:
        """List all cells, in the order of execution."""

    def sizes(self) -> Mapping[str, Sequence[int]]:
        """Map Dim names to the sizes they may take, ascending; the last one is the uncut size."""

    def removable(self) -> Sequence[str]:
        """List the names of the blocks that can be dropped."""

    def cell_sizes(
        self, sizes: Mapping[str, int], dropped: Sequence[str] = ()
    ) -> Mapping[str, tuple[int, ...]]:
        """Map cell names to their widths at these Dim sizes, without cells of dropped blocks."""

    def probe(self, sizes: Mapping[str, int], dropped: Sequence[str] = ()) -> Probe:
        """Build the network with Dims cut to these sizes (missing: uncut) and blocks dropped.

        Weights are of no meaning: only its latency is looked at.
        """


def network_digest(source: ProbeSource) -> str:
    """Hash a network's cells and Dims: equal whatever its weights and its name."""
    cells = [(c.name, c.spec.to_json(), sorted(c.dims), c.dense_sizes) for c in source.cells()]
    sizes = {name: list(options) for name, options in source.sizes().items()}
    text = json.dumps([cells, sizes], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
