"""The axes of a graph, which rules fill in."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from torch import fx

from ..graph import BATCH_HINT, Program, operator_name
from .algebra import UNIT, Atom, Axis, factors_of, freeze_axes, multiply, unify_axes

Axes: TypeAlias = list[Axis]
Result: TypeAlias = Axes | list[Axes]
Path: TypeAlias = tuple[int | str, ...]
COMPUTED = "its size is computed in the graph"


class AxisMap:
    """The axes of every value in a graph of its own, which rules fill in and rewrite.

    Attributes:
        program: The Program whose graph this is.
        axes: Node -> its tensor's axes; for an operator with several results a list of them.
        symbolic_arguments: Node -> place in its arguments -> the axis whose size stands there as a
            number. Cutting a network rewrites these.
        roles: (tensor name, axis) -> ``"out"``, ``"in"`` or ``"norm"``; ``"other"`` where none is
            given.
        early_roles: Roles that operators give which compute weights from parameters alone; they
            count where nothing else gives one.
        computed_roles: (node, axis) -> the role of the axis of a computed weight.
        readers: Tensor name -> names of the nodes that read a weight computed from it, in order.
        reduction_axes: Node -> the axes of its first argument that it normalizes or reduces over.
            Where they are cut it runs over what is left, so that the masked dense network must do
            so as well.
        extents: Node that computes a number -> the axis whose size that is.
        sequences: Nodes that make constants whose numbers depend on their positions: a cut leaves
            a part of them, which stands in a buffer then.
        unsupported: Nodes without a rule.
        batch: The axis of the batch.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.axes: dict[fx.Node, Any] = {}
        self.symbolic_arguments: dict[fx.Node, dict[Path, Axis]] = {}
        self.roles: dict[tuple[str, int], str] = {}
        self.early_roles: dict[tuple[str, int], str] = {}
        self.computed_roles: dict[tuple[fx.Node, int], str] = {}
        self.readers: dict[str, dict[str, None]] = {}
        self.reduction_axes: dict[fx.Node, tuple[int, ...]] = {}
        self.extents: dict[fx.Node, Axis] = {}
        self.sequences: list[fx.Node] = []
        self.unsupported: list[fx.Node] = []
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

    def new_inner_axes(self, sizes: tuple[int, ...], reason: str) -> Axes:
        """Return frozen axes that are not the first: as large as a fixed batch by chance alone."""
        if self.program.batch == BATCH_HINT:
            return self.new_frozen_axes(sizes, reason)
        return [Atom(size, reason) if size > 1 else UNIT for size in sizes]

    def new_extent(self, node: fx.Node, path: Path, size: int) -> Axis:
        """Return an axis of the size that stands as a number at a place in a node's arguments.

        A plain number follows the axis; of one that the graph computes it is the axis that is
        known of it, or else a frozen one.
        """
        given: Any = node.args
        for step in path:
            given = given[step]
        if isinstance(given, int):
            axis = self.new_axis(size)
            self.set_symbolic(node, path, axis)
            return axis
        known = self.extents.get(given)
        if known is None or known.size != size:
            return self.new_axis(size, COMPUTED)
        return self._order_factors(known, self._find_alike(known))

    def match_extent(self, number: fx.Node, axis: Axis, node: fx.Node) -> None:
        """Make an axis the one whose size a number is; freeze it where none is known."""
        known = self.extents.get(number)
        if known is None:
            freeze_axes([axis], COMPUTED)
        else:
            self.unify(self._order_factors(known, axis), axis, node)

    def _order_factors(self, known: Axis, like: Axis) -> Axis:
        """Put the batch in front of or behind the other factors of a size, as an axis has it.

        A product of numbers, such as batch * heads, does not say in which order its factors run.
        """
        factors, order = factors_of(known), factors_of(like)
        rest = [factor for factor in factors if factor is not self.batch]
        if len(rest) != len(factors) - 1 or not rest or self.batch not in (order[0], order[-1]):
            return known
        return multiply((self.batch, *rest) if order[0] is self.batch else (*rest, self.batch))

    def _find_alike(self, known: Axis) -> Axis:
        """Return the last axis so far of the same size as a product of the batch and others.

        Where there is none, the batch stands in front.
        """
        rest = [factor for factor in factors_of(known) if factor is not self.batch]
        if not 0 < len(rest) < len(factors_of(known)):
            return known
        for node in reversed(self.axes):
            for axis in self.all_axes(node):
                if axis.size == known.size and self.batch in factors_of(axis):
                    return axis
        return multiply((self.batch, *rest))

    def set_symbolic(self, node: fx.Node, path: Path, axis: Axis) -> None:
        """Note that the number at a place in a node's arguments is the size of an axis."""
        self.symbolic_arguments.setdefault(node, {})[path] = axis

    def set_role(self, tensor: Any, axis: int, role: str) -> None:
        """Note the role of the axis of a parameter, or of what an operator computes."""
        if isinstance(tensor, fx.Node) and tensor.op == "get_attr":
            self.roles[str(tensor.target), axis] = role
        elif isinstance(tensor, fx.Node) and tensor.op == "call_function":
            self.computed_roles[tensor, axis] = role

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
