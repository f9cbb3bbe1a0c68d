"""A traced network: Dims and the slots that they cut, located Cells, the Network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import fx

from latency_tables import Cell, Probe

from ..axes import Atom, Axis, AxisMap, axis_size, cut_program
from ..graph import BATCH_HINT, Block, Program, build_probe_onnx, flatten_io, materialize


@dataclass(frozen=True)
class Slot:
    """One axis of one parameter or buffer that a Dim cuts.

    Attributes:
        tensor: The name in ``state_dict``.
        axis: The axis of that tensor.
        owner: [axis size] int: the Dim's index that each position of the axis belongs to, -1 for
            positions that are not this Dim's (another part of a concatenation).
        role: ``"out"`` (weights and biases that write the Dim's channels), ``"norm"`` (scale, shift
            and statistics of a normalization), ``"in"`` (weights that read them), ``"other"``.
        cell: The cell that the tensor belongs to, or None.
        blocks: The removable blocks that the tensor lies in (it lives while all of them are kept).
    """

    tensor: str
    axis: int
    owner: NDArray[np.int64]
    role: str
    cell: str | None
    blocks: tuple[str, ...]


@dataclass(frozen=True)
class Dim:
    """One set of coupled tensor axes that must be cut together.

    Attributes:
        name: Its name in the network.
        size: The number of indices in the uncut network.
        step: Kept sizes are multiples of it (or size).
        slots: The tensor axes.
        kind: ``"heads"``, ``"qk"``, ``"v"``, ``"hidden"``, ... (:mod:`pruner.structure.dim_kinds`).
    """

    name: str
    size: int
    step: int
    slots: tuple[Slot, ...] = field(repr=False)
    kind: str = "channels"

    def options(self) -> tuple[int, ...]:
        """Return the sizes that may be chosen, ascending; the last is the uncut size."""
        return tuple(sorted({*range(self.step, self.size + 1, self.step), self.size}))


@dataclass(frozen=True)
class Frozen:
    """A reason why axes cannot be cut, and the tensors that it locks."""

    reason: str
    tensors: tuple[str, ...] = ()


@dataclass(frozen=True)
class LocatedCell:
    """A Cell with the axes that its sizes come from, its nodes, and the blocks that it lies in."""

    cell: Cell
    widths: tuple[Axis, ...]
    nodes: frozenset[str]
    blocks: tuple[str, ...]


@dataclass(frozen=True)
class Network:
    """A model and what can be cut in it. Made by :func:`pruner.trace`; nothing changes it.

    Attributes:
        name: The network's name.
        program: Its graph and tensors.
        module: The dense network rebuilt from the graph: the same numbers and ``state_dict`` names.
        inputs: The example arguments one after the other, nested ones taken apart
            (``torch.utils._pytree.tree_leaves((args, kwargs))``).
        dims: The Dims by name.
        blocks: The removable Blocks by name.
        frozen: What cannot be cut, and why.
        axis_map: The axes of every node.
        atoms: The atom of every Dim.
        located: The cells in the order of execution.
    """

    name: str
    program: Program = field(repr=False)
    module: fx.GraphModule = field(repr=False)
    inputs: tuple[Any, ...] = field(repr=False)
    dims: Mapping[str, Dim]
    blocks: Mapping[str, Block]
    frozen: tuple[Frozen, ...]
    axis_map: AxisMap = field(repr=False)
    atoms: Mapping[str, Atom] = field(repr=False)
    located: tuple[LocatedCell, ...] = field(repr=False)

    @property
    def reading(self) -> AxisMap:
        """The former name of axis_map."""
        return self.axis_map

    @property
    def fixed_batch(self) -> int | None:
        """The batch that the network insists on; None where it takes any."""
        return None if self.program.batch == BATCH_HINT else self.program.batch

    def cells(self) -> Sequence[Cell]:
        """Return the cells in the order of execution."""
        return [located.cell for located in self.located]

    def sizes(self) -> Mapping[str, Sequence[int]]:
        """Return Dim name -> the sizes that it may take, ascending."""
        return {name: dim.options() for name, dim in self.dims.items()}

    def removable(self) -> Sequence[str]:
        """Return the names of the blocks that can be dropped."""
        return tuple(self.blocks)

    def cell_sizes(
        self, sizes: Mapping[str, int], dropped: Sequence[str] = ()
    ) -> dict[str, tuple[int, ...]]:
        """Return cell name -> its widths at Dim sizes; cells of dropped blocks are missing."""
        by_atom = {self.atoms[name]: size for name, size in sizes.items()}
        return {
            located.cell.name: tuple(axis_size(width, by_atom) for width in located.widths)
            for located in self.located
            if not set(dropped).intersection(located.blocks)
        }

    def probe(self, sizes: Mapping[str, int], dropped: Sequence[str] = ()) -> Probe:
        """Return the network with Dims cut to their first indices, blocks dropped, for timing."""
        return self._build_probe(sizes, dropped) if sizes or dropped else self._dense_probe

    @cached_property
    def _dense_probe(self) -> Probe:
        return self._build_probe({}, ())

    def _build_probe(self, sizes: Mapping[str, int], dropped: Sequence[str]) -> Probe:
        first = {
            self.atoms[name]: np.arange(self.dims[name].size) < size for name, size in sizes.items()
        }
        program = cut_program(self.axis_map, first, [self.blocks[name] for name in dropped])
        module, inputs = flatten_io(materialize(program, self.name), self.inputs)
        alive = {node.name for node in program.graph.nodes}
        cell_sizes = self.cell_sizes(sizes, dropped)
        return Probe(
            module=module,
            inputs=inputs,
            onnx=cache(lambda: build_probe_onnx(module, inputs)),
            cell_of={
                node: located.cell.name
                for located in self.located
                for node in located.nodes
                if node in alive and located.cell.name in cell_sizes
            },
            sizes=cell_sizes,
        )
