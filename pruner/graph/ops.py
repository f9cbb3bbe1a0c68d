"""What a node of a graph calls and with what, and which nodes matter to it."""

from collections.abc import Callable
from typing import Any

from torch import fx

from .torch_internals import operator_schema

DROPOUTS = ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")


def operator_name(node: fx.Node) -> str:
    """Return ``"conv2d"`` for ``aten.conv2d.default``, ``"getitem"`` for ``operator.getitem``."""
    return target_name(node.target)


def target_name(target: Any) -> str:
    """Return the `operator_name` of a node that calls this."""
    schema = operator_schema(target)
    if schema is not None:
        return str(schema.name).partition("::")[2]
    return getattr(target, "__name__", str(target))


def operator_arguments(node: fx.Node) -> dict[str, Any]:
    """Return the operator's arguments by their names in its schema, defaults filled in."""
    values: dict[str, Any] = {}
    for i, argument in enumerate(operator_schema(node.target).arguments):
        if i < len(node.args):
            values[argument.name] = node.args[i]
        else:
            values[argument.name] = node.kwargs.get(argument.name, argument.default_value)
    return values


def is_mutable(node: fx.Node) -> bool:
    """Whether the node's operator writes to one of its arguments."""
    return bool(getattr(operator_schema(node.target), "is_mutable", False))


def producer_of(node: fx.Node) -> fx.Node:
    """Return the node whose result is a node's first argument."""
    found = node.args[0]
    assert isinstance(found, fx.Node)
    return found


def remove_dead_nodes(graph: fx.Graph, keep: Callable[[fx.Node], bool] = is_mutable) -> None:
    """Remove nodes that nothing reads, in place; arguments, results and what keep holds stay."""
    graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output") or keep(node))


def find_sources(*nodes: fx.Node) -> set[fx.Node]:
    """Find the nodes that values are computed from, and those of the values."""
    found, pending = set(nodes), list(nodes)
    while pending:
        fresh = set(pending.pop().all_input_nodes) - found
        found |= fresh
        pending += fresh
    return found


def find_input_dependent(graph: fx.Graph, sizes: bool = False) -> set[fx.Node]:
    """Find the nodes whose values change with those of the network's inputs.

    With ``sizes`` also those that change with the inputs' sizes alone: a class token that is
    expanded to the batch.
    """
    live: set[fx.Node] = set()
    for node in graph.nodes:
        name = operator_name(node)
        if name == "getattr" or (name == "sym_size" and not sizes):  # its device is no value
            continue
        if node.op == "placeholder" or any(source in live for source in node.all_input_nodes):
            live.add(node)
    return live
