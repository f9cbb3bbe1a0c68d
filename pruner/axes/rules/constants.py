"""Constants that a graph makes, and the numbers in it that are sizes of axes."""

import operator

from torch import fx

from ...graph import operator_arguments, operator_name
from ..algebra import Axis, freeze_axes, multiply
from ..axis_map import Axes, AxisMap, Result
from .base import rule
from .reshape import RESHAPES

CONSTANT = "a constant's extent"
CONSTANTS = ("zeros", "ones", "full", "new_zeros", "new_ones", "new_full", "empty", "new_empty",
             "rand", "randn")  # fmt: skip
TAKE_SIZES = (*CONSTANTS, *RESHAPES, "expand", "broadcast_to", "repeat", "tile")
"""Operators whose numbers are sizes of their results, or counts of copies."""


@rule(*CONSTANTS)
def constant(axis_map: AxisMap, node: fx.Node) -> Axes:
    """Return new axes: a constant may shrink with what it is joined to."""
    place = 1 if operator_name(node).startswith("new_") else 0
    shape = axis_map.shape_of(node)
    return [axis_map.new_extent(node, (place, i), size) for i, size in enumerate(shape)]


@rule("arange", "linspace", "logspace", "eye")
def sequence(axis_map: AxisMap, node: fx.Node) -> Result:
    """Return new axes: of numbers that the graph does not compute, a cut leaves a part as it is."""
    if node.all_input_nodes:
        return axis_map.freeze_node(node, CONSTANT)
    axis_map.sequences.append(node)
    return [axis_map.new_axis(size) for size in axis_map.shape_of(node)]


@rule("sym_size")
def read_size(axis_map: AxisMap, node: fx.Node) -> Axes:
    """Note whose size a number is; what is made of it may be more than sizes."""
    source, dim = node.args
    axis = axis_map.axes_of(source)[dim]  # type: ignore[index]
    freeze_axes([axis], "its size is read in the graph")
    axis_map.extents[node] = axis
    return []


def multiply_sizes(axis_map: AxisMap, node: fx.Node) -> Axes:
    """Note of which axis a product of sizes, such as batch * heads, is the size.

    Plain factors follow their axes where the product is read as a size and as nothing else.
    """
    if node.target is not operator.mul:
        return []
    plain = all(operator_name(reader) in TAKE_SIZES for reader in node.users)
    factors: list[Axis] = []
    for place, factor in enumerate(node.args):
        if isinstance(factor, fx.Node) and factor in axis_map.extents:
            factors.append(axis_map.extents[factor])
        elif isinstance(factor, int):
            factors.append(axis_map.new_axis(factor, None if plain else CONSTANT))
            if plain:
                axis_map.set_symbolic(node, (place,), factors[-1])
        else:
            return []
    axis_map.extents[node] = multiply(factors)
    return []


@rule("meshgrid")
def meshgrid(axis_map: AxisMap, node: fx.Node) -> Result:
    """Give every vector's axis to each of the grids, in their order or the first two swapped."""
    args = operator_arguments(node)
    axes = [axis_map.axes_of(source)[0] for source in args["tensors"]]
    if args.get("indexing") == "xy":
        axes[:2] = axes[1::-1]
    return [list(axes) for _ in node.meta["shape"]]


@rule("one_hot")
def one_hot(axis_map: AxisMap, node: fx.Node) -> Axes:
    """Add a frozen axis of the classes."""
    classes = axis_map.new_axis(axis_map.shape_of(node)[-1], "classes of one_hot")
    return [*axis_map.axes_of(node.args[0]), classes]


@rule("bucketize", "searchsorted")
def search(axis_map: AxisMap, node: fx.Node) -> Result:
    """Return the axes of the values that are looked up; the boundaries, in order, are frozen."""
    args = operator_arguments(node)
    bounds = axis_map.axes_of(args["boundaries" if "boundaries" in args else "sorted_sequence"])
    freeze_axes(bounds[-1:], "boundaries in order")
    values = args["self"]
    if not isinstance(values, fx.Node):
        return []
    x = list(axis_map.axes_of(values))
    for mine, theirs in zip(x, bounds[:-1]):
        axis_map.unify(mine, theirs, node)
    if isinstance(args.get("sorter"), fx.Node):
        freeze_axes(axis_map.axes_of(args["sorter"]), "boundaries in order")
    return x


@rule("scalar_tensor", "nonzero", "tril_indices", "triu_indices")
def freeze_constant(axis_map: AxisMap, node: fx.Node) -> Result:
    """Freeze what a constant that depends on positions reads and what it gives."""
    return axis_map.freeze_node(node, CONSTANT)
