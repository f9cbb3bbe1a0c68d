"""LayoutChain: operators in a row that move numbers, or multiply them by constants."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..graph import DropPath, get_layer, operator_name

_SAME = (
    "contiguous", "clone", "alias", "detach", "lift_fresh_copy", "to", "_to_copy", "type_as",
    "dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "drop_path",
)  # fmt: skip
_MOVES = (
    "view", "reshape", "_unsafe_view", "flatten", "unflatten", "permute", "transpose", "t", "mT",
    "numpy_T", "swapaxes", "movedim", "squeeze", "unsqueeze", "expand", "repeat",
    "repeat_interleave", "select", "slice", "narrow", "roll", "getitem", "split",
    "split_with_sizes", "chunk", "unbind",
)  # fmt: skip
_FACTORS = ("mul", "div")
_PARTS = ("split", "split_with_sizes", "chunk", "unbind")
_SIZES = ("sym_size", "getattr")
_SAME_LAYERS = (nn.Identity, nn.modules.dropout._DropoutNd, DropPath)


@dataclass(frozen=True)
class LayoutChain:
    """Operators each of which reads the result of the one before it.

    Attributes:
        start: The node whose value goes in.
        nodes: The operators, in the order of execution.
    """

    start: fx.Node
    nodes: tuple[fx.Node, ...]

    @property
    def end(self) -> fx.Node:
        """The node whose value comes out."""
        return self.nodes[-1] if self.nodes else self.start

    @property
    def moves(self) -> bool:
        """Whether a number may stand elsewhere at the end, or as another number."""
        return any(_name_kind(node) in _MOVES + _FACTORS for node in self.nodes)

    @property
    def scales(self) -> bool:
        """Whether numbers are multiplied by constants."""
        return any(_name_kind(node) in _FACTORS for node in self.nodes)

    @property
    def factor(self) -> float | None:
        """What all numbers are multiplied by; None where it is no number of the graph."""
        found = 1.0
        for node in self.nodes:
            if _name_kind(node) in _FACTORS:
                numbers = [arg for arg in node.args[:2] if isinstance(arg, int | float)]
                if len(numbers) != 1:
                    return None
                found *= numbers[0] if _name_kind(node) == "mul" else 1 / numbers[0]
        return found

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of the nodes whose values `carry` looks at."""
        found = {self.start.name: None}
        before = self.start
        for node in self.nodes:
            if _name_kind(node) in _MOVES + _FACTORS:
                found.update((one.name, None) for one in node.all_input_nodes if one is not before)
            before = node
        return tuple(found)

    def carry(self, value: Tensor, values: Mapping[str, Any], multiply: bool = False) -> Tensor:
        """Return what the end has of a value at the start.

        Args:
            value: Of the start's shape.
            values: Of `needs`.
            multiply: Whether constants are multiplied with.
        """
        found: Any = value
        before = self.start
        for node in self.nodes:
            kind = _name_kind(node)
            if kind in _MOVES or (kind in _FACTORS and multiply):
                given = {one: values.get(one.name) for one in node.all_input_nodes}
                given[before] = found
                args, kwargs = fx.node.map_arg((node.args, node.kwargs), given.__getitem__)
                target: Any = node.target
                found = target(*args, **kwargs)
            before = node
        return found

    def index(self, values: Mapping[str, Any]) -> Tensor:
        """Return where every number of the end stands in the start, as a flat position: int64."""
        start = values[self.start.name]
        count = torch.arange(start.numel(), device=start.device)
        return self.carry(count.view(start.shape), values)

    def carry_back(self, value: Tensor, values: Mapping[str, Any]) -> Tensor:
        """Return a value at the end as it stands at the start, where both hold as many numbers."""
        start = values[self.start.name]
        found = value.new_empty(start.numel())
        found[self.index(values).flatten()] = value.flatten()
        return found.view(start.shape)


def follow_layout(
    module: nn.Module, start: fx.Node, live: Collection[fx.Node], shapes: Mapping[str, Any]
) -> LayoutChain:
    """Return the operators behind a value, alone read each, that keep all of its numbers.

    Args:
        module: Whose graph it is.
        start: The value.
        live: The nodes whose values depend on the network's inputs.
        shapes: Of the dense network's values.
    """
    nodes: list[fx.Node] = []
    end, count = start, _count_numbers(shapes, start)
    while (user := find_reader(end)) is not None:
        if _find_source(module, user, live) is not end or _count_numbers(shapes, user) != count:
            break
        nodes.append(user)
        end = user
    return LayoutChain(start, tuple(nodes))


def trace_layout(
    module: nn.Module, end: fx.Node, starts: Collection[fx.Node], live: Collection[fx.Node]
) -> LayoutChain | None:
    """Return the operators from one of the starts to an end, if nothing else reads what they move.

    Args:
        module: Whose graph it is.
        end: The last of them.
        starts: Where they may begin.
        live: The nodes whose values depend on the network's inputs.
    """
    nodes: list[fx.Node] = []
    node = end
    while node not in starts:
        source = _find_source(module, node, live)
        if source is None or not _reads_alone(node, source):
            return None
        nodes.append(node)
        node = source
    return LayoutChain(node, tuple(reversed(nodes)))


def find_reader(node: fx.Node) -> fx.Node | None:
    """Return the one node that reads the numbers of a value; None where there are several."""
    found = [user for user in node.users if operator_name(user) not in _SIZES]
    return found[0] if len(found) == 1 else None


def _reads_alone(node: fx.Node, source: fx.Node) -> bool:
    """Whether no other node reads the part of a value that this one does."""
    if find_reader(source) is node:
        return True
    readers = [user for user in source.users if operator_name(user) not in _SIZES]
    if _name_kind(source) not in _PARTS:
        return False
    return len([user for user in readers if user.args[1] == node.args[1]]) == 1


def _find_source(module: nn.Module, node: fx.Node, live: Collection[fx.Node]) -> fx.Node | None:
    """Return the node whose numbers this one moves; None for any other operator."""
    layer, kind = get_layer(module, node), _name_kind(node)
    if layer is not None:
        moved: Any = node.args[0] if isinstance(layer, _SAME_LAYERS) else None
    elif node.op != "call_function":
        return None
    elif kind in _FACTORS:
        depend = [arg for arg in node.args[:2] if isinstance(arg, fx.Node) and arg in live]
        plain = len(depend) == 1 and not node.kwargs and len(node.args) == 2
        moved = depend[0] if plain and (kind == "mul" or depend[0] is node.args[0]) else None
    else:
        moved = node.args[0] if kind in _SAME + _MOVES else None
    return moved if isinstance(moved, fx.Node) else None


def _count_numbers(shapes: Mapping[str, Any], node: fx.Node) -> int | None:
    return prod(shapes[node.name]) if node.name in shapes else None


def _name_kind(node: fx.Node) -> str:
    """Return the name of the operator that a node calls; none for a layer."""
    return operator_name(node) if node.op == "call_function" else ""
