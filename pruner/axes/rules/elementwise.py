"""Operators that work position by position, with broadcasting."""

from torch import fx

from ..algebra import resolve_axis
from ..axis_map import Axes, AxisMap, Result
from .base import rule

SAME_SHAPE = (
    "dropout", "feature_dropout", "alpha_dropout", "contiguous", "alias", "clone", "detach",
    "lift_fresh_copy", "masked_fill", "where", "_to_copy", "expand_as", "hardswish",
    "zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "lift_fresh",
    "bernoulli", "copy", "fill", "drop_path", "feature_alpha_dropout",
)  # fmt: skip


@rule(*SAME_SHAPE)
def match_pointwise(axis_map: AxisMap, node: fx.Node) -> Result:
    """Make every axis of an input that of the output, but for broadcast ones of size one."""
    if isinstance(node.meta["shape"], list):  # where(condition): the places of its ones
        return axis_map.freeze_node(node, "positions that depend on data")
    shape = axis_map.shape_of(node)
    result: Axes = [axis_map.new_axis(size) for size in shape]
    for source in node.all_input_nodes:
        axes = axis_map.axes.get(source)
        if not isinstance(axes, list) or len(axes) > len(shape):
            continue
        for i, axis in enumerate(axes, len(shape) - len(axes)):
            if resolve_axis(axis).size == shape[i]:
                axis_map.unify(result[i], axis, node)
    return [resolve_axis(axis) for axis in result]


@rule("to", "type_as")
def cast(axis_map: AxisMap, node: fx.Node) -> Axes:
    """Return the axes of the first tensor: a second one gives its type only."""
    return list(axis_map.axes_of(node.args[0]))
