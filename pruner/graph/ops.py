"""What a node of a graph calls, and with what."""

from __future__ import annotations

from typing import Any

from torch import fx


def operator_name(node: fx.Node) -> str:
    """``"conv2d"`` for ``aten.conv2d.default``, ``"getitem"`` for ``operator.getitem``."""
    schema = getattr(node.target, "_schema", None)
    if schema is not None:
        return str(schema.name).partition("::")[2]
    return getattr(node.target, "__name__", str(node.target))


def operator_arguments(node: fx.Node) -> dict[str, Any]:
    """The operator's arguments by their names in its schema, defaults filled in."""
    schema = node.target._schema  # type: ignore[union-attr]
    values: dict[str, Any] = {}
    for i, argument in enumerate(schema.arguments):
        if i < len(node.args):
            values[argument.name] = node.args[i]
        elif argument.name in node.kwargs:
            values[argument.name] = node.kwargs[argument.name]
        else:
            values[argument.name] = argument.default_value
    return values


def find_input_dependent(graph: fx.Graph, sizes: bool = False) -> set[fx.Node]:
    """The nodes whose values change with those of the network's inputs, or only with their sizes.

    sizes
        Count the latter too: a class token that is expanded to the batch.
    """
    live: set[fx.Node] = set()
    for node in graph.nodes:
        if not sizes and operator_name(node) == "sym_size":
            continue
        if node.op == "placeholder" or any(source in live for source in node.all_input_nodes):
            live.add(node)
    return live
