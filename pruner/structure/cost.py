"""Counts the multiply-adds and parameters of a structure, exactly."""

from collections.abc import Iterator, Mapping, Sequence
from math import prod

from torch import fx

from ..axes import CONVOLUTIONS, Axes, axis_size
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
    """Yield the axes whose sizes multiply to an operator's multiply-adds, and its Blocks."""
    around = index_blocks(net.blocks)
    for node in net.program.graph.nodes:
        if node.op != "call_function":
            continue
        if (summed := _find_summed_axes(net, node)) is not None:
            yield [*net.axis_map.axes_of(node), *summed], around.get(node.name, ())


def _find_summed_axes(net: Network, node: fx.Node) -> Axes | None:
    """Return the axes that an operator sums over, None for one that does not."""
    name, axis_map = operator_name(node), net.axis_map
    if name in (*CONVOLUTIONS, "deform_conv2d", "linear"):
        weight = axis_map.axes_of(operator_arguments(node)["weight"])
        if name.startswith("conv_transpose"):
            return [weight[0], *weight[2:]]  # an upper bound: counted at every output position
        return weight[-1:] if name == "linear" else weight[1:]
    if name in ("matmul", "bmm", "mm"):
        return axis_map.axes_of(node.args[0])[-1:]
    if name == "scaled_dot_product_attention":
        args = operator_arguments(node)  # per output: one product with V, and its share of Q K^T
        return [axis_map.axes_of(args["key"])[-2]]
    return None


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
