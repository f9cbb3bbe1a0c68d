"""The axes of a graph, which rules fill in."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from torch import fx

from ..graph import Program, operator_name
from .algebra import UNIT, Atom, Axis, atoms_of, freeze_axes, unify_axes

Axes: TypeAlias = list[Axis]
Result: TypeAlias = Axes | list[Axes]
Path: TypeAlias = tuple[int | str, ...]


class AxisMap:
    """The axes of every value in a graph of its own, which rules fill in and rewrite.

    Attributes:
        program: The Program whose graph this is.
        axes: Node -> its tensor's axes; for an operator with several results a list of them.
        symbolic_arguments: Node -> place in its arguments -> the axis whose size stands there as a
            number. Cutting a network rewrites these.
        roles: (tensor name, axis) -> ``"out"``, ``"in"`` or ``"norm"``; ``"other"`` where none is
            given.
        reduction_axes: Node -> the axes of its first argument that it normalizes or reduces over.
            Where they are cut it runs over what is left, so that the masked dense network must do
            so as well.
        unsupported: Nodes without a rule.
        origins: Node that inputs do not reach -> for each of its axes the axes of parameters and
            buffers, (tensor name, axis), that it comes from: a weight may be a part of another,
            transposed, masked.
        batch: The axis of the batch.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.axes: dict[fx.Node, Any] = {}
        self.symbolic_arguments: dict[fx.Node, dict[Path, Axis]] = {}
        self.roles: dict[tuple[str, int], str] = {}
        self.reduction_axes: dict[fx.Node, tuple[int, ...]] = {}
        self.unsupported: list[fx.Node] = []
        self.origins: dict[fx.Node, list[set[tuple[str, int]]]] = {}
        self.batch = Atom(program.batch, "the batch")

    def axes_of(self, node: Any) -> Axes:
        """Return the axes of one tensor argument."""
        axes = self.axes[node]
        assert isinstance(axes, list)
        return axes

    def all_axes(self, node: fx.Node) -> Axes:
        """Return the axes of all results of a node, one after the other."""
        known = self.axes.get(node) or ()
        return [a for one in known for a in (one if isinstance(one, list) else [one])]

    def tensor_nodes(self) -> Iterator[fx.Node]:
        """Return the nodes that read a parameter or buffer."""
        return (node for node in self.program.graph.nodes if node.op == "get_attr")

    def shape_of(self, node: fx.Node) -> tuple[int, ...]:
        """Return the integer shape of a node's (only) result."""
        shape = node.meta["shape"]
        assert isinstance(shape, tuple), node
        return shape

    def new_axis(self, size: int, reason: str | None = None) -> Axis:
        """Return a new axis; with a reason it is frozen, and is the batch where it has its size."""
        if size == 1:
            return UNIT
        if size == self.program.batch and self.program.batch > 1 and reason is not None:
            return self.batch
        return Atom(size, reason)

    def new_frozen_axes(self, shape: tuple[int, ...], reason: str) -> Axes:
        """Return a frozen axis for every size of a shape."""
        return [self.new_axis(size, reason) for size in shape]

    def set_symbolic(self, node: fx.Node, path: Path, axis: Axis) -> None:
        """Note that the number at a place in a node's arguments is the size of an axis."""
        self.symbolic_arguments.setdefault(node, {})[path] = axis

    def set_role(self, tensor: Any, axis: int, role: str) -> None:
        """Note the role of a parameter's axis, or of those that a weight made of some comes from.

        Nothing is noted where tensor depends on the network's inputs.
        """
        if not isinstance(tensor, fx.Node):
            return
        if tensor.op == "get_attr":
            self.roles[str(tensor.target), axis] = role
        elif tensor in self.origins:
            for origin in sorted(self.origins[tensor][axis]):
                self.roles.setdefault(origin, role)

    def note_origins(self, node: fx.Node) -> None:
        """Note which axes of parameters the axes of a node come from, as soon as they are known.

        Later the network may have made two axes of a square weight one.
        """
        if node.op == "get_attr":
            axes = range(len(self.axes_of(node)))
            self.origins[node] = [{(str(node.target), i)} for i in axes]
        elif node.op == "call_function" and self.origins.keys() >= set(node.all_input_nodes):
            known = [
                (set(atoms_of(axis)), origins)
                for source in node.all_input_nodes
                for axis, origins in zip(self.all_axes(source), self.origins[source])
            ]
            self.origins[node] = [
                {origin for atoms, found in known if not atoms.isdisjoint(atoms_of(axis))
                 for origin in found}
                for axis in self.all_axes(node)
            ]  # fmt: skip

    def unify(self, x: Axis, y: Axis, node: fx.Node) -> bool:
        """Make two axes one that a node joins; freeze both where they do not fit."""
        return unify_axes(x, y, f"the axes that {describe_node(node)} joins do not fit together")

    def freeze_node(self, node: fx.Node, reason: str) -> Result:
        """Freeze every axis that a node reads and return new frozen ones for its results."""
        for source in node.all_input_nodes:
            freeze_axes(self.all_axes(source), reason)
        shape = node.meta["shape"]
        if isinstance(shape, list):
            return [self.new_frozen_axes(one, reason) if one is not None else [] for one in shape]
        return self.new_frozen_axes(shape, reason) if shape is not None else []

    def freeze_atoms(self, reasons: Mapping[Atom, str]) -> AxisMap:
        """Return a copy with atoms of its own, of which these are frozen, on the same graph."""
        shared = (UNIT, self.program, *self.program.graph.nodes)
        memo: dict[int, Any] = {id(one): one for one in shared}
        result = copy.deepcopy(self, memo)
        for atom, reason in reasons.items():
            freeze_axes([memo[id(atom)]], reason)
        return result


def describe_node(node: fx.Node) -> str:
    """Return an operator's name and its place, for messages."""
    path = node.meta.get("path")
    return f"{operator_name(node)} in {path}" if path else operator_name(node)
