"""Fake quantization: element-wise; scales and zero points of channels follow the channels."""

from torch import fx

from ...graph import operator_arguments, operator_name
from ..axis_map import Axes, AxisMap, Result
from .base import rule
from .elementwise import match_pointwise

PER_TENSOR = (
    "fake_quantize_per_tensor_affine", "fake_quantize_per_tensor_affine_cachemask",
    "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams",
    "_fake_quantize_learnable_per_tensor_affine",
)  # fmt: skip
PER_CHANNEL = (
    "fake_quantize_per_channel_affine", "fake_quantize_per_channel_affine_cachemask",
    "_fake_quantize_learnable_per_channel_affine",
)  # fmt: skip
OBSERVED = "_fused_moving_avg_obs_fq_helper"
FUNCTIONAL = f"{OBSERVED}_functional"
OBSERVERS = (OBSERVED, FUNCTIONAL)
"""Quantizers that look at the range of what they quantize."""
QUANTIZERS = (*PER_TENSOR, *PER_CHANNEL, *OBSERVERS)
STATISTICS = ("running_min", "running_max", "scale", "zero_point")


@rule(*PER_TENSOR)
def quantize_tensor(axis_map: AxisMap, node: fx.Node) -> Result:
    """Return the axes of the tensor, of a mask beside it too."""
    return _repeat(node, list(axis_map.axes_of(node.args[0])))


@rule(*PER_CHANNEL)
def quantize_channels(axis_map: AxisMap, node: fx.Node) -> Result:
    """Match scale and zero point with the quantized axis."""
    args = operator_arguments(node)
    x = axis_map.axes_of(args["self"])
    for name in ("scale", "zero_point"):
        axis_map.unify(axis_map.axes_of(args[name])[0], x[args["axis"]], node)
    return _repeat(node, list(x))


@rule(*OBSERVERS)
def observe(axis_map: AxisMap, node: fx.Node) -> Result:
    """Match the statistics of channels with them; those of a whole tensor have no axis to cut.

    Zero is always in the range of what is quantized: removed positions do not move it.
    """
    args = operator_arguments(node)
    x = axis_map.axes_of(args["self"])
    statistics = [axis_map.axes_of(args[name]) for name in STATISTICS]
    if args["per_row_fake_quant"]:
        for axes in statistics:
            if axes:
                axis_map.unify(axes[0], x[args["ch_axis"]], node)
    rest = statistics if operator_name(node) == FUNCTIONAL else []
    return [list(x), list(x), *map(list, rest)][: len(node.meta["shape"])]


@rule("copy_")
def write(axis_map: AxisMap, node: fx.Node) -> Result:
    """Match a buffer with what is written to it."""
    return match_pointwise(axis_map, node)


def _repeat(node: fx.Node, axes: Axes) -> Result:
    """Return the axes, so many times as the operator has results."""
    shape = node.meta["shape"]
    return [list(axes) for _ in shape] if isinstance(shape, list) else axes
