"""The pass that writes numbers read out of constant tensors into the graph.

A detector asks its strides, a tensor beside the weights, for numbers (``stride[0].item()``). As an
operator that would be a number that depends on data: no rule holds for what is made of it, and it
cannot be asked of a tensor on ``meta``.
"""

import operator
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from .ops import is_mutable, operator_name

_READS = ("item", "_local_scalar_dense")
_VIEWS = ("select", "slice", "unsqueeze", "squeeze", "view", "reshape")
_ARITHMETIC = (
    operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod,
    operator.pow, operator.neg, torch.sym_int, torch.sym_float, torch.sym_max, torch.sym_min,
)  # fmt: skip


def fold_constant_numbers(
    graph: fx.Graph, tensors: Mapping[str, Tensor], constant: Collection[str]
) -> None:
    """Replace numbers that are read out of constants, and what is reckoned of them, in place.

    Args:
        graph: In canonical form.
        tensors: Its tensors by name.
        constant: The names of those that no ``state_dict`` holds: nothing can change them.
    """
    values: dict[fx.Node, Any] = {}
    written = {node.args[0] for node in graph.nodes if node.args and is_mutable(node)}
    for node in list(graph.nodes):
        if node.op == "get_attr":
            if str(node.target) in constant and node not in written:
                values[node] = tensors[str(node.target)]
            continue
        if node.op != "call_function":
            continue
        reads, sources = operator_name(node) in _READS, node.all_input_nodes
        views = operator_name(node) in _VIEWS
        reckons = node.target in _ARITHMETIC and not sources
        if reckons or (sources and (reads or views) and all(s in values for s in sources)):
            values[node] = _call(node, values)
            if not views:
                _replace_by_number(node, values[node])


def _call(node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
    target: Any = node.target
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
    with torch.no_grad():
        return target(*args, **kwargs)


def _replace_by_number(node: fx.Node, number: Any) -> None:
    """Write a number where a node was read."""

    def write(source: fx.Node) -> Any:
        return number if source is node else source

    for reader in list(node.users):
        reader.args = fx.node.map_arg(reader.args, write)
        reader.kwargs = fx.node.map_arg(reader.kwargs, write)
