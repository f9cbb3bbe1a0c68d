"""Products of two values, such as queries and keys, and the linear operators behind them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from ..graph import DotProductAttention, get_layer, operator_name
from .layout_chains import LayoutChain, find_reader, trace_layout
from .linear_reads import LinearRead, Shapes

_ATTENTION = "scaled_dot_product_attention"
_KEEPS_SHIFTS = ("add", "mul", "div", "masked_fill", "where", "to", "_to_copy", "clone", "dropout")
"""What leaves a number that is added to all of a row added to all that it does not hide."""


@dataclass(frozen=True)
class Operand:
    """One side of a product: rows of channels that are summed over.

    Attributes:
        node: The operand.
        order: Its axes in the order [runs..., tokens, width].
        read: The linear operator that the operand comes from.
        chain: From its result to the operand.
        factor: What the result is multiplied by on the way.
    """

    node: fx.Node
    order: tuple[int, ...]
    read: LinearRead
    chain: LayoutChain
    factor: float

    def arrange(self, value: Tensor) -> Tensor:
        """Return a value of the operand's shape as [runs, tokens, width]."""
        return value.permute(self.order).flatten(0, -3)


@dataclass(frozen=True)
class OperandProduct:
    """A product whose sum runs along a width that two linear operators write.

    Attributes:
        node: The operator.
        query: Its first operand.
        key: Its second.
        centred: Whether a softmax over the keys follows, which what is added to all keys leaves.
    """

    node: fx.Node
    query: Operand
    key: Operand
    centred: bool


def find_product(
    module: nn.Module,
    node: fx.Node,
    reads: Mapping[fx.Node, LinearRead],
    live: Collection[fx.Node],
    shapes: Shapes,
) -> OperandProduct | None:
    """Return the product that an operator is, if linear operators alone are behind both operands.

    Args:
        module: Whose graph it is.
        node: The operator.
        reads: Linear operators by the nodes of their results.
        live: The nodes whose values depend on the network's inputs.
        shapes: Of the dense network's values.
    """
    sides = _match_sides(module, node, shapes)
    if sides is None:
        return None
    found = []
    for operand, order in sides:
        chain = trace_layout(module, operand, reads, live) if find_reader(operand) else None
        factor = None if chain is None else chain.factor
        if chain is None or not factor or not is_plain(reads[chain.start]):
            return None
        found.append(Operand(operand, order, reads[chain.start], chain, factor))
    centred = is_attention(module, node) or _leads_to_softmax(node, shapes)
    return OperandProduct(node, found[0], found[1], centred)


def is_attention(module: nn.Module, node: fx.Node) -> bool:
    """Whether a node calls an attention of queries, keys and values."""
    layer = get_layer(module, node)
    return isinstance(layer, DotProductAttention) or (
        node.op == "call_function" and operator_name(node) == _ATTENTION
    )


def is_plain(read: LinearRead) -> bool:
    """Whether a read is one matrix over one axis."""
    return read.step is None and read.form.groups == 1 and read.form.sums_one_axis


Side = tuple[fx.Node, tuple[int, ...]]


def _match_sides(module: nn.Module, node: fx.Node, shapes: Shapes) -> tuple[Side, Side] | None:
    """Return both operands with the orders of their axes."""
    name = operator_name(node) if node.op == "call_function" else ""
    if is_attention(module, node):
        pair, turned = node.args[:2], False
    elif name in ("matmul", "bmm"):
        pair, turned = node.args[:2], True
    elif name == "baddbmm":
        pair, turned = node.args[1:3], True
    elif name == "einsum":
        return _match_einsum(node)
    else:
        return None
    if len(pair) < 2 or pair[0] is pair[1]:
        return None
    first, second = pair
    if not isinstance(first, fx.Node) or not isinstance(second, fx.Node):
        return None
    ranks = [len(shapes.get(one.name, ())) for one in (first, second)]
    if min(ranks) < 3:
        return None
    order = tuple(range(ranks[1]))
    if turned:
        order = (*order[:-2], order[-1], order[-2])
    return (first, tuple(range(ranks[0]))), (second, order)


def read_einsum(
    node: fx.Node,
) -> tuple[tuple[str, str, str], tuple[fx.Node, fx.Node]] | None:
    """Return both terms and the result's of an einsum, and its operands; None of other forms.

    Its operands are two different values, no term has an axis twice, and none an ellipsis.
    """
    equation, operands = str(node.args[0]).replace(" ", ""), node.args[1]
    left, arrow, result = equation.partition("->")
    terms = left.split(",")
    if not arrow or "." in left or len(terms) != 2 or not isinstance(operands, list | tuple):
        return None
    a, b = operands
    if not isinstance(a, fx.Node) or not isinstance(b, fx.Node) or a is b:
        return None
    if any(len(set(term)) != len(term) for term in (*terms, result)):
        return None
    return (terms[0], terms[1], result), (a, b)


def _match_einsum(node: fx.Node) -> tuple[Side, Side] | None:
    """Return the operands of an einsum that sums over one axis of both, others side by side."""
    read = read_einsum(node)
    if read is None:
        return None
    (first, second, result), operands = read
    terms = first, second
    runs = [x for x in result if x in first and x in second]
    summed = [x for x in first if x in second and x not in result]
    outer = [[x for x in one if x not in other] for one, other in (terms, terms[::-1])]
    plain = all(len(one) == len(runs) + 2 for one in terms)
    if len(summed) != 1 or not runs or not plain or any(len(one) != 1 for one in outer):
        return None
    orders = [
        tuple(map(one.index, (*runs, *own, *summed))) for one, own in zip(terms, outer, strict=True)
    ]
    return (operands[0], orders[0]), (operands[1], orders[1])


def _leads_to_softmax(node: fx.Node, shapes: Shapes) -> bool:
    """Whether a product is read by a softmax along its last axis, through sums and factors."""
    rank = len(shapes.get(node.name, ()))
    if operator_name(node) == "einsum":
        first, second = str(node.args[0]).replace(" ", "").partition("->")[0].split(",")
        if str(node.args[0])[-1] not in second or str(node.args[0])[-1] in first:
            return False
    reader = find_reader(node)
    while reader is not None and reader.op == "call_function":
        name = operator_name(reader)
        if name in ("softmax", "_softmax"):
            axis = reader.args[1]
            return isinstance(axis, int) and axis % rank == rank - 1
        if name not in _KEEPS_SHIFTS or not _scales_rows(reader, node, shapes):
            return False
        node, reader = reader, find_reader(reader)
    return False


def _scales_rows(reader: fx.Node, node: fx.Node, shapes: Shapes) -> bool:
    """Whether an operator's factor is one for all of a row, its result of the same axes."""
    if len(shapes.get(reader.name, ())) != len(shapes.get(node.name, ())):
        return False
    if operator_name(reader) not in ("mul", "div"):
        return True
    other: list[Any] = [one for one in reader.args[:2] if one is not node]
    sized = [shapes.get(one.name, (2,)) for one in other if isinstance(one, fx.Node)]
    return all(not shape or shape[-1] == 1 for shape in sized)


def list_starts(reads: Iterable[LinearRead]) -> dict[fx.Node, LinearRead]:
    """Return reads by the nodes of their results."""
    return {read.result: read for read in reads if read.step is None}
