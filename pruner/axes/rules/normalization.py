"""Batch, layer, group and RMS normalization."""

from torch import fx

from ...graph import operator_arguments
from ..algebra import split_product
from ..axis_map import Axes, AxisMap, Result
from .base import rule

NORMALIZATIONS = ("batch_norm", "instance_norm", "layer_norm", "rms_norm", "group_norm")


@rule("batch_norm", "instance_norm")
def batch_norm(axis_map: AxisMap, node: fx.Node) -> Axes:
    """Match scale, shift and statistics with the channels (axis 1)."""
    args = operator_arguments(node)
    x = axis_map.axes_of(args["input"])
    for name in ("weight", "bias", "running_mean", "running_var"):
        _match_parameter(axis_map, node, args[name], x[1:2])
    if args.get("training") or args.get("use_input_stats"):  # weights are standardized so
        rows = (0,) if args.get("training") else ()
        axis_map.reduction_axes[node] = (*rows, *range(2, len(x)))
    return x


@rule("layer_norm", "rms_norm")
def layer_norm(axis_map: AxisMap, node: fx.Node) -> Axes:
    """Match scale and shift with the last axes, whose sizes stand in ``normalized_shape``."""
    args = operator_arguments(node)
    x, count = axis_map.axes_of(args["input"]), len(args["normalized_shape"])
    axis_map.reduction_axes[node] = tuple(range(len(x) - count, len(x)))
    for name in ("weight", "bias"):
        _match_parameter(axis_map, node, args.get(name), x[-count:])
    for i, axis in enumerate(x[-count:]):
        axis_map.set_symbolic(node, (1, i), axis)
    return x


@rule("group_norm")
def group_norm(axis_map: AxisMap, node: fx.Node) -> Result:
    """Split the channels: groups go as a whole, or channels from every group alike."""
    args = operator_arguments(node)
    x = axis_map.axes_of(args["input"])
    split = split_product(x[1], args["num_groups"])
    if split is None:
        return axis_map.freeze_node(node, "a group norm whose groups cut across joined channels")
    axis_map.reduction_axes[node] = tuple(range(1, len(x)))
    for name in ("weight", "bias"):
        _match_parameter(axis_map, node, args[name], x[1:2])
    axis_map.set_symbolic(node, (1,), split[0])
    return x


def _match_parameter(axis_map: AxisMap, node: fx.Node, tensor: fx.Node | None, axes: Axes) -> None:
    """Make the axes of a parameter, where there is one, those that it scales or shifts."""
    if tensor is None:
        return
    for i, (mine, theirs) in enumerate(zip(axis_map.axes_of(tensor), axes)):
        axis_map.unify(mine, theirs, node)
        axis_map.set_role(tensor, i, "norm")
