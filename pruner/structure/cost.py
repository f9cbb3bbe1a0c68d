"""What a structure costs without measuring it: multiply-adds and parameters, exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from torch import fx, nn

from ..axes import Axes, axis_size
from ..graph import arguments, operator_name
from .network import Network
from .residual_blocks import blocks_of, surroundings


def macs(net: Network, sizes: Mapping[str, int] | None = None, dropped: Sequence[str] = ()) -> int:
    """Multiply-adds of one input's convolutions, linear layers and matrix products."""
    reading, total = net.reading, 0
    by_atom = {net.atoms[name]: n for name, n in (sizes or {}).items()}
    by_atom[reading.batch] = 1
    gone = {node for name in dropped for node in net.blocks[name].nodes}
    for node in net.program.graph.nodes:
        if node.op != "call_function" or node.name in gone:
            continue
        summed = _summed(net, node)
        if summed is None:
            continue
        total += prod(axis_size(axis, by_atom) for axis in (*reading.of(node), *summed))
    return total


def _summed(net: Network, node: fx.Node) -> Axes | None:
    """The axes that an operator sums over, None for one that does not."""
    name, reading = operator_name(node), net.reading
    if name.startswith("conv_transpose"):
        weight = reading.of(arguments(node)["weight"])
        return [weight[0], *weight[2:]]  # an upper bound: counted at every output position
    if name.startswith("conv"):
        return reading.of(arguments(node)["weight"])[1:]
    if name == "linear":
        return reading.of(arguments(node)["weight"])[-1:]
    if name in ("matmul", "bmm", "mm"):
        return reading.of(node.args[0])[-1:]
    if name == "scaled_dot_product_attention":
        args = arguments(node)  # per output: one product with V, and its share of Q K^T
        return [reading.of(args["key"])[-2]]
    return None


def parameters(
    net: Network, sizes: Mapping[str, int] | None = None, dropped: Sequence[str] = ()
) -> int:
    """Number of parameters (not buffers)."""
    by_atom = {net.atoms[name]: n for name, n in (sizes or {}).items()}
    gone, around = set(dropped), surroundings(net.blocks)
    total = 0
    for node in net.program.graph.nodes:
        if node.op != "get_attr" or not isinstance(
            net.program.tensors[str(node.target)], nn.Parameter
        ):
            continue
        readers = {user.name for user in node.users}
        if gone.intersection(blocks_of(readers, around)):
            continue
        total += prod(axis_size(axis, by_atom) for axis in net.reading.of(node))
    return total
