"""Operators that sum over an axis of products: one factor takes the gates of the axis."""

import warnings

from torch import fx

from ..axes import (
    CONVOLUTIONS,
    GATES,
    TRANSPOSED,
    describe_node,
    parse_equation,
    resolve_axis,
    split_product,
)
from ..errors import PrunerWarning
from ..graph import operator_arguments
from .reductions import gate_cdist
from .writer import GateWriter, find_place, handle


@handle(*(name for name in CONVOLUTIONS if name not in TRANSPOSED), "deform_conv2d")
def gate_convolution(writer: GateWriter, node: fx.Node) -> None:
    """Gate the weight [out, in / groups, ...] along axis 1."""
    writer.scale(node, find_place(node, "weight"), (1,))


@handle(*TRANSPOSED)
def gate_transposed(writer: GateWriter, node: fx.Node) -> None:
    """Gate the weight [in, out / groups, ...] along what axis 0 holds of every group."""
    args = operator_arguments(node)
    axis, groups = writer.axis_map.axes_of(args["weight"])[0], args["groups"]
    pieces = split_product(axis, groups) if isinstance(groups, int) else None
    if pieces is None:
        if writer.is_gated(axis):
            raise writer.refuse(node, [axis], "has a number of groups that the graph computes")
        return
    each = writer.reader.spread(pieces[1])
    if each is not None:
        writer.scale_by(node, find_place(node, "weight"), {0: writer.reader.repeat(each, groups)})


@handle("linear")
def gate_linear(writer: GateWriter, node: fx.Node) -> None:
    """Gate the weight [out, in] along its last axis."""
    weight = operator_arguments(node)["weight"]
    writer.scale(node, find_place(node, "weight"), (len(writer.axis_map.axes_of(weight)) - 1,))


@handle("matmul", "bmm", "mm", "mv", "dot")
def gate_product(writer: GateWriter, node: fx.Node) -> None:
    """Gate one of [..., m, k] and [..., k, n] along k."""
    _gate_factors(writer, node, 0)


@handle("addmm", "baddbmm")
def gate_added_product(writer: GateWriter, node: fx.Node) -> None:
    """Gate one of the factors of bias + left @ right along what is summed over."""
    _gate_factors(writer, node, 1)


def _gate_factors(writer: GateWriter, node: fx.Node, first: int) -> None:
    left, right = (writer.axis_map.axes_of(node.args[first + i]) for i in range(2))
    inner = max(len(right) - 2, 0)
    writer.scale_one(node, [((first,), len(left) - 1), ((first + 1,), inner)])


@handle("scaled_dot_product_attention")
def gate_attention(writer: GateWriter, node: fx.Node) -> None:
    """Gate query or key along their width."""
    args = operator_arguments(node)
    operands = [
        (find_place(node, name), len(writer.axis_map.axes_of(args[name])) - 1)
        for name in ("query", "key")
    ]
    writer.scale_one(node, operands)


@handle("einsum")
def gate_einsum(writer: GateWriter, node: fx.Node) -> None:
    """Gate one operand along every letter that is summed over."""
    equation, operands = node.args[0], node.args[1]
    assert isinstance(equation, str) and isinstance(operands, list | tuple)
    axes = [writer.axis_map.axes_of(operand) for operand in operands]
    terms, output = parse_equation(equation, [len(one) for one in axes])
    for letter in dict.fromkeys("".join(terms)):
        if letter not in output:
            places = [
                ((1, i), term.index(letter))
                for i, term in enumerate(terms)
                if letter in term and resolve_axis(axes[i][term.index(letter)]).size > 1
            ]
            writer.scale_one(node, places)


@handle("bilinear")
def gate_bilinear(writer: GateWriter, node: fx.Node) -> None:
    """Gate the weight [out, i, j] along what it reads of both inputs."""
    writer.scale(node, find_place(node, "weight"), (1, 2))


@handle("cdist", "_cdist_forward")
def gate_distances(writer: GateWriter, node: fx.Node) -> None:
    """Weigh the coordinates of distances between [..., m, k] and [..., n, k]."""
    axes = writer.axis_map.axes_of(node.args[0])
    gate = writer.reader.spread(axes[-1])
    if gate is not None:
        order = operator_arguments(node).get("p", 2.0)
        writer.replace(node, gate_cdist, node.args[0], node.args[1], gate, order)


@handle(*GATES)
def gate_recurrent(writer: GateWriter, node: fx.Node) -> None:
    """Gate the weights [gates * hidden, in or state] and [state, hidden] along what they read."""
    place = find_place(node, "params")
    for i, weight in enumerate(operator_arguments(node)["params"]):
        if len(writer.axis_map.axes_of(weight)) == 2:
            writer.scale(node, (*place, i), (1,))
    args = operator_arguments(node)
    if args["dropout"] and args["num_layers"] > 1:
        warnings.warn(
            f"{describe_node(node)} drops nothing between its layers in training while its gates "
            "are on", PrunerWarning, stacklevel=4,
        )  # fmt: skip
