"""Sizes that a graph computes from the batch, such as batch * heads, and that follow a cut."""

import operator
from typing import Any

from torch import fx

from ..algebra import Axis, factors_of, remove_atom
from ..axis_map import AxisMap


def follow_batch_multiple(
    axis_map: AxisMap, node: fx.Node, size: fx.Node, axis: Axis
) -> fx.Node | None:
    """Return a size for the node's arguments that is the batch times what follows a Dim.

    Args:
        axis_map: Where the number that follows is noted.
        node: Reads the size; the size that is returned is made before it, for it alone.
        size: A product of the batch and integers.
        axis: What is as large.

    Returns:
        None where the size or the axis is no such product.
    """
    source: Any = size
    count = 1
    while isinstance(source, fx.Node) and source.target is operator.mul:
        numbers = [value for value in source.args if isinstance(value, int)]
        if len(numbers) != 1:
            return None
        count *= numbers[0]
        source = next(value for value in source.args if not isinstance(value, int))
    times = remove_atom(axis, axis_map.batch)
    batches = sum(factor is axis_map.batch for factor in factors_of(axis))
    if batches != 1 or times.size != count or axis.size != count * axis_map.batch.size:
        return None
    graph = axis_map.program.graph
    with graph.inserting_before(node):
        made = graph.call_function(operator.mul, (source, count))
    made.meta = {**node.meta, "shape": None, "dtype": None}
    axis_map.axes[made] = []
    axis_map.set_symbolic(made, (1,), times)
    return made
