"""The axes of a graph: what the rules see, and the table that they register in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import fx

from ...graph import Program, operator_name
from ..algebra import UNIT, Atom, Axis, freeze_axis, unify_axes

Axes: TypeAlias = "list[Axis]"
Result: TypeAlias = "Axes | list[Axes]"
Path: TypeAlias = "tuple[int | str, ...]"


class AxisMap:
    """A graph on its way to a structure: the axes of every value read so far.

    axes
        Node -> its tensor's axes; for an operator with several results a list of them.
    symbolic_arguments
        Node -> place in its arguments -> the axis whose size stands there as a number. Cutting a
        network rewrites these.
    roles
        (tensor name, axis) -> ``"out"``, ``"in"`` or ``"norm"``; ``"other"`` where none is given.
    reduction_axes
        Node -> the axes of its first argument that it normalizes or reduces over. Where they are
        cut it runs over what is left, so that the masked dense network must do so as well.
    unsupported
        Nodes without a rule.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.axes: dict[fx.Node, Any] = {}
        self.symbolic_arguments: dict[fx.Node, dict[Path, Axis]] = {}
        self.roles: dict[tuple[str, int], str] = {}
        self.reduction_axes: dict[fx.Node, tuple[int, ...]] = {}
        self.unsupported: list[fx.Node] = []
        self.batch = Atom(program.batch, "the batch")

    def axes_of(self, node: Any) -> Axes:
        """The axes of one tensor argument."""
        axes = self.axes[node]
        assert isinstance(axes, list)
        return axes

    def shape_of(self, node: fx.Node) -> tuple[int, ...]:
        """The integer shape of a node's (only) result."""
        shape = node.meta["shape"]
        assert isinstance(shape, tuple), node
        return shape

    def new_axis(self, size: int, reason: str | None = None) -> Axis:
        """A new axis; of the batch where it has its size."""
        if size == 1:
            return UNIT
        if size == self.program.batch and self.program.batch > 1 and reason is not None:
            return self.batch
        return Atom(size, reason)

    def new_frozen_axes(self, shape: tuple[int, ...], reason: str) -> Axes:
        return [self.new_axis(size, reason) for size in shape]

    def set_symbolic(self, node: fx.Node, path: Path, axis: Axis) -> None:
        """The number at this place in the node's arguments is the size of this axis."""
        self.symbolic_arguments.setdefault(node, {})[path] = axis

    def set_role(self, tensor: Any, axis: int, role: str) -> None:
        if isinstance(tensor, fx.Node) and tensor.op == "get_attr":
            self.roles[str(tensor.target), axis] = role

    def unify(self, x: Axis, y: Axis, node: fx.Node) -> bool:
        return unify_axes(x, y, f"the axes that {describe_node(node)} joins do not fit together")

    def freeze(self, axis: Axis, reason: str) -> None:
        freeze_axis(axis, reason)

    def freeze_node(self, node: fx.Node, reason: str) -> Result:
        """Freeze every axis that the node touches; its results are new frozen axes."""
        for source in node.all_input_nodes:
            axes = self.axes.get(source)
            for axis in axes if isinstance(axes, list) else ():
                for one in axis if isinstance(axis, list) else (axis,):
                    freeze_axis(one, reason)
        shape = node.meta["shape"]
        if isinstance(shape, list):
            return [self.new_frozen_axes(one, reason) if one is not None else [] for one in shape]
        return self.new_frozen_axes(shape, reason) if shape is not None else []


Rule: TypeAlias = "Callable[[AxisMap, fx.Node], Result]"
RULES: dict[str, Rule] = {}


def rule(*operators: str) -> Callable[[Rule], Rule]:
    """Register a rule for these ATen operators (names without overload)."""

    def register(function: Rule) -> Rule:
        for name in operators:
            assert name not in RULES, name
            RULES[name] = function
        return function

    return register


def describe_node(node: fx.Node) -> str:
    """An operator and its place, for messages."""
    path = node.meta.get("path")
    return f"{operator_name(node)} in {path}" if path else operator_name(node)


def is_pointwise(node: fx.Node) -> bool:
    tags = getattr(node.target, "tags", ())
    return torch.Tag.pointwise in tags
