"""Finds the products that mix rows of values, as attention does, and what reads the mixtures."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import fx, nn

from ..graph import operator_name
from .layout_chains import find_reader, follow_layout, trace_layout
from .linear_reads import LinearRead, Shapes
from .product_operands import Operand, is_attention, is_plain, read_einsum
from .value_fits import RowMixture


def find_mixture(
    module: nn.Module,
    node: fx.Node,
    starts: Mapping[fx.Node, LinearRead],
    readers: Mapping[fx.Node, LinearRead],
    live: Collection[fx.Node],
    shapes: Shapes,
) -> RowMixture | None:
    """Return the mixture that an operator makes of a linear operator's result for another.

    Args:
        module: Whose graph it is.
        node: The operator.
        starts: Linear operators by the nodes of their results.
        readers: Linear operators by the nodes that they alone read.
        live: The nodes whose values depend on the network's inputs.
        shapes: Of the dense network's values.
    """
    found = _match_value(module, node, shapes)
    if found is None:
        return None
    operand, order, result = found
    chain = trace_layout(module, operand, starts, live) if find_reader(operand) else None
    factor = None if chain is None else chain.factor
    if chain is None or not factor or not is_plain(starts[chain.start]):
        return None
    behind = follow_layout(module, node, live, shapes)
    reader = readers.get(behind.end)
    if reader is None or behind.scales or not is_plain(reader):
        return None
    value = Operand(operand, order, starts[chain.start], chain, factor)
    return RowMixture(node, value, result, behind, reader)


def _match_value(
    module: nn.Module, node: fx.Node, shapes: Shapes
) -> tuple[fx.Node, tuple[int, ...], tuple[int, ...]] | None:
    """Return what is mixed, and its axes and the result's in the order [runs..., rows, width]."""
    name = operator_name(node) if node.op == "call_function" else ""
    if is_attention(module, node):
        value = node.args[2] if len(node.args) > 2 else None
    elif name in ("matmul", "bmm"):
        value = node.args[1]
    elif name == "einsum":
        return _match_einsum(node)
    else:
        return None
    if not isinstance(value, fx.Node) or value in node.args[: 1 if name else 2]:
        return None
    rank = len(shapes.get(value.name, ()))
    if rank < 3 or rank != len(shapes.get(node.name, ())):
        return None
    return value, tuple(range(rank)), tuple(range(rank))


def _match_einsum(node: fx.Node) -> tuple[fx.Node, tuple[int, ...], tuple[int, ...]] | None:
    """Return the second operand of an einsum that sums over its rows."""
    read = read_einsum(node)
    if read is None:
        return None
    (first, second, result), (_, value) = read
    runs = [x for x in result if x in first and x in second]
    rows = [x for x in second if x in first and x not in result]
    width = [x for x in second if x not in first]
    outer = [x for x in first if x not in second]
    if len(rows) != 1 or len(width) != 1 or len(outer) != 1 or not runs:
        return None
    if any(len(term) != len(runs) + 2 for term in (first, second, result)):
        return None
    order = tuple(map(second.index, (*runs, *rows, *width)))
    return value, order, tuple(map(result.index, (*runs, *outer, *width)))
