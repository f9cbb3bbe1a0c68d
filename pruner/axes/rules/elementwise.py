"""Operators that work position by position, with broadcasting.

Most are tagged so by ATen; the table names those that are not.
"""

from torch import fx

from ...graph import operator_name
from ..algebra import freeze_axes, resolve_axis
from ..axis_map import Axes, AxisMap, Result
from .base import rule

SAME_SHAPE = (
    "dropout", "feature_dropout", "alpha_dropout", "contiguous", "alias", "clone", "detach",
    "lift_fresh_copy", "masked_fill", "where", "_to_copy", "expand_as", "hardswish",
    "zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "lift_fresh",
    "bernoulli", "copy", "fill", "zero", "drop_path", "feature_alpha_dropout", "native_dropout",
    "real", "imag", "complex", "polar", "conj", "_conj", "_neg_view", "resolve_conj", "resolve_neg",
    "conj_physical", "angle", "rrelu", "native_channel_dropout",
    "normal", "normal_functional", "uniform", "exponential", "log_normal", "cauchy", "geometric",
)  # fmt: skip
COPIES = ("copy", "copy_", "_to_copy", "lift_fresh_copy", "to", "type_as")
PARTS = "real and imaginary parts"


@rule(*SAME_SHAPE)
def match_pointwise(axis_map: AxisMap, node: fx.Node) -> Result:
    """Make every axis of an input that of the output, but for broadcast ones of size one."""
    shape = node.meta["shape"]
    if isinstance(shape, list):
        if operator_name(node) == "where":  # of a condition alone: the places of its ones
            return axis_map.freeze_node(node, "positions that depend on data")
        shape = shape[0]  # a value and what it was masked with, a mantissa and its exponent
    result: Axes = [axis_map.new_axis(size) for size in shape]
    for source in node.all_input_nodes:
        axes = axis_map.axes.get(source)
        if not isinstance(axes, list) or len(axes) > len(shape):
            continue
        for i, axis in enumerate(axes, len(shape) - len(axes)):
            if resolve_axis(axis).size == shape[i]:
                axis_map.unify(result[i], axis, node)
    result = [resolve_axis(axis) for axis in result]
    several = node.meta["shape"]
    return [list(result) for _ in several] if isinstance(several, list) else result


@rule("prelu")
def prelu(axis_map: AxisMap, node: fx.Node) -> Axes:
    """Match slopes, where there are several, with the channels (axis 1)."""
    x, slopes = (axis_map.axes_of(source) for source in node.args[:2])
    if slopes and resolve_axis(slopes[0]).size > 1:
        axis_map.unify(slopes[0], x[1], node)
        axis_map.set_role(node.args[1], 0, "norm")
    return list(x)


@rule("view_as_real")
def view_as_real(axis_map: AxisMap, node: fx.Node) -> Axes:
    """Add an axis of real and imaginary parts."""
    return [*axis_map.axes_of(node.args[0]), axis_map.new_axis(2, PARTS)]


@rule("view_as_complex")
def view_as_complex(axis_map: AxisMap, node: fx.Node) -> Axes:
    """End the axis of real and imaginary parts."""
    x = axis_map.axes_of(node.args[0])
    freeze_axes(x[-1:], PARTS)
    return x[:-1]


@rule("outer", "ger")
def outer(axis_map: AxisMap, node: fx.Node) -> Axes:
    """Return the axes of both vectors: every position of the one times every one of the other."""
    return [axis for source in node.args[:2] for axis in axis_map.axes_of(source)]


@rule("to", "type_as")
def cast(axis_map: AxisMap, node: fx.Node) -> Axes:
    """Return the axes of the first tensor: a second one gives its type only."""
    return list(axis_map.axes_of(node.args[0]))
