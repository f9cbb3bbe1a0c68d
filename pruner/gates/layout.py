"""Gates along an axis: the number of a position is the product of the gates of its indices."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx

from ..axes import Atom, Axis, Sum, atoms_of, resolve_axis

Layout: TypeAlias = tuple[str, Any]
"""How an axis is made of gates, as plain data that stands in a graph's call: ("gate", number of the
gate), ("ones", size), ("sum", layouts one after the other), ("product", layouts, row-major)."""


def describe_layout(axis: Axis, numbers: Mapping[Atom, int]) -> Layout:
    """Return how the gates of an axis's positions are made of the gates of atoms.

    Args:
        axis: The axis.
        numbers: The atoms that have gates, and the number that each goes by.
    """
    axis = resolve_axis(axis)
    if numbers.keys().isdisjoint(atoms_of(axis)):
        return ("ones", axis.size)
    if isinstance(axis, Atom):
        return ("gate", numbers[axis])
    if isinstance(axis, Sum):
        return ("sum", tuple(describe_layout(part, numbers) for part in axis.parts))
    return ("product", tuple(describe_layout(factor, numbers) for factor in axis.factors))


def lay_out_gates(layout: Layout, gates: Sequence[Tensor]) -> Tensor:
    """Return the number of every position of an axis: [axis size], differentiable by the gates."""
    kind, content = layout
    if kind == "gate":
        return gates[content]
    if kind == "ones":
        return gates[0].new_ones(content)
    parts = [lay_out_gates(part, gates) for part in content]
    if kind == "sum":
        return torch.cat(parts)
    result = parts[0]
    for part in parts[1:]:
        result = (result[:, None] * part).reshape(-1)
    return result


class GateReader:
    """Gives the nodes of a graph in which the gates of axes stand, each made once.

    Attributes:
        graph: The graph, in which they are made before all other operators.
        gates: Atom -> the node that reads its gates.
    """

    def __init__(self, graph: fx.Graph, names: Mapping[Atom, str], dtype: torch.dtype) -> None:
        """Put reads of these tensors, one an atom, in front of a graph's operators."""
        self.graph = graph
        self._first = next(node for node in graph.nodes if node.op != "placeholder")
        self._dtype = dtype
        self.gates = {atom: self.read_tensor(name, (atom.size,)) for atom, name in names.items()}
        self._made: dict[tuple[Layout, tuple[fx.Node, ...]], fx.Node] = {}

    def read_tensor(self, name: str, shape: tuple[int, ...]) -> fx.Node:
        """Return a new node that reads a tensor of the network."""
        with self.graph.inserting_before(self._first):
            node = self.graph.create_node("get_attr", name)
        node.meta = {"shape": shape, "dtype": self._dtype}
        return node

    def repeat(self, gate: fx.Node, count: int) -> fx.Node:
        """Return the node of gates, so many times one after the other."""
        layout = ("product", (("ones", count), ("gate", 0)))
        return self._make(layout, (gate,), count * gate.meta["shape"][0])

    def list_atoms(self, axis: Axis) -> list[Atom]:
        """Return the atoms of an axis that have gates, in their order."""
        return list(dict.fromkeys(atom for atom in atoms_of(axis) if atom in self.gates))

    def spread(self, axis: Axis) -> fx.Node | None:
        """Return the node of the gates of an axis's positions; None where it has no gates."""
        atoms = self.list_atoms(axis)
        if not atoms:
            return None
        gates = tuple(self.gates[atom] for atom in atoms)
        layout = describe_layout(axis, {atom: i for i, atom in enumerate(atoms)})
        if layout[0] == "gate":
            return gates[0]
        return self._make(layout, gates, resolve_axis(axis).size)

    def _make(self, layout: Layout, gates: tuple[fx.Node, ...], size: int) -> fx.Node:
        """Return the node that lays gates out, which is made once."""
        if (layout, gates) not in self._made:
            with self.graph.inserting_before(self._first):
                node = self.graph.call_function(lay_out_gates, (layout, gates))
            node.meta = {"shape": (size,), "dtype": self._dtype}
            self._made[layout, gates] = node
        return self._made[layout, gates]
