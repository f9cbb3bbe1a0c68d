"""Counts the multiply-adds and parameters of a structure, exactly."""

from collections.abc import Iterator, Mapping, Sequence
from math import prod

from torch import fx

from ..axes import (
    CONVOLUTIONS,
    GATES,
    PRODUCTS,
    TRANSPOSED,
    Axes,
    Axis,
    AxisMap,
    axis_size,
    parse_equation,
)
from ..graph import operator_arguments, operator_name
from .allocations import list_weights
from .network import Network
from .residual_blocks import index_blocks


def count_macs(
    net: Network, sizes: Mapping[str, int] | None = None, dropped: Sequence[str] = ()
) -> int:
    """Return the multiply-adds of convolutions, linear layers and matrix products for one input."""
    by_atom = {net.atoms[name]: n for name, n in (sizes or {}).items()}
    by_atom[net.axis_map.batch] = 1
    gone = set(dropped)
    return sum(
        prod(axis_size(axis, by_atom) for axis in axes)
        for axes, blocks in list_macs(net)
        if not gone.intersection(blocks)
    )


def list_macs(net: Network) -> Iterator[tuple[Axes, tuple[str, ...]]]:
    """Yield axes whose sizes multiply to multiply-adds of an operator, and its Blocks."""
    around = index_blocks(net.blocks)
    for node in net.program.graph.nodes:
        if node.op == "call_function":
            for axes in _list_products(net.axis_map, node):
                yield axes, around.get(node.name, ())


def _list_products(axis_map: AxisMap, node: fx.Node) -> Iterator[Axes]:
    """Yield the axes over which an operator multiplies and adds; nothing for one that does not."""
    name = operator_name(node)
    if name in (*CONVOLUTIONS, "deform_conv2d", "linear", "bilinear"):
        weight = axis_map.axes_of(operator_arguments(node)["weight"])
        if name in TRANSPOSED:  # an upper bound: counted at every output position
            summed = [weight[0], *weight[2:]]
        else:
            summed = weight[-1:] if name == "linear" else weight[1:]
        yield [*axis_map.axes_of(node), *summed]
    elif name in PRODUCTS:
        place = int(name in ("addmm", "baddbmm"))  # their first is added: a bias
        yield [*axis_map.axes_of(node), *axis_map.axes_of(node.args[place])[-1:]]
    elif name == "einsum":
        yield from _list_einsum(axis_map, node)
    elif name == "scaled_dot_product_attention":
        args = operator_arguments(node)  # per output: one product with V, and its share of Q K^T
        yield [*axis_map.axes_of(node), axis_map.axes_of(args["key"])[-2]]
    elif name in GATES:
        args = operator_arguments(node)
        for weight in args.get("params") or ():
            if len(axis_map.axes_of(weight)) == 2 and "input" in args:
                yield [*axis_map.axes_of(args["input"])[:-1], *axis_map.axes_of(weight)]


def _list_einsum(axis_map: AxisMap, node: fx.Node) -> Iterator[Axes]:
    """Yield the axes of an einsum's products of two operands, taken from left to right."""
    equation, operands = node.args[:2]
    rows = [axis_map.axes_of(operand) for operand in operands]  # type: ignore[union-attr]
    terms, output = parse_equation(str(equation), [len(row) for row in rows])
    size_of: dict[str, Axis] = {}
    for term, row in zip(terms, rows):
        for letter, axis in zip(term, row):
            if letter not in size_of or size_of[letter].size < axis.size:
                size_of[letter] = axis
    left = set(terms[0])
    for i, term in enumerate(terms[1:], 2):
        yield [size_of[letter] for letter in sorted(left.union(term))]
        left = left.union(term).intersection("".join([output, *terms[i:]]))


def count_parameters(
    net: Network, sizes: Mapping[str, int] | None = None, dropped: Sequence[str] = ()
) -> int:
    """Return the number of parameters (not buffers)."""
    by_atom = {net.atoms[name]: n for name, n in (sizes or {}).items()}
    return sum(
        prod(axis_size(axis, by_atom) for axis in one.axes)
        for one in list_weights(net)
        if one.trained and one.is_present(dropped)
    )
