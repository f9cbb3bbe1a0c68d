"""Constants that a graph makes, and the numbers in it that are sizes of axes."""

import operator

from torch import fx

from ...graph import operator_name
from ..algebra import Axis, freeze_axes, multiply
from ..axis_map import Axes, AxisMap, Result
from .base import rule
from .shape import RESHAPES

CONSTANT = "a constant's extent"
CONSTANTS = ("zeros", "ones", "full", "new_zeros", "new_ones", "new_full", "empty", "new_empty")
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


@rule("scalar_tensor", "meshgrid", "one_hot", "searchsorted", "bucketize", "nonzero",
      "tril_indices", "triu_indices")  # fmt: skip
def freeze_constant(axis_map: AxisMap, node: fx.Node) -> Result:
    """Freeze what a constant that depends on positions reads and what it gives."""
    return axis_map.freeze_node(node, CONSTANT)
