"""Pooling, resampling and what else moves within a map: channels pass, extents are frozen."""

from torch import fx

from ...graph import operator_name
from ..algebra import freeze_axes
from ..axis_map import AxisMap, Result
from .base import rule
from .contraction import MAP

ONE_D = ("max_pool1d", "avg_pool1d", "adaptive_avg_pool1d", "adaptive_max_pool1d",
         "upsample_linear1d", "upsample_nearest1d")  # fmt: skip
TWO_D = ("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d",
         "max_pool2d_with_indices", "upsample_bilinear2d", "upsample_nearest2d",
         "upsample_nearest_exact2d", "upsample_bicubic2d", "_upsample_bicubic2d_aa",
         "_upsample_bilinear2d_aa", "reflection_pad2d", "replication_pad2d",
         "lp_pool2d")  # fmt: skip
THREE_D = ("max_pool3d", "avg_pool3d", "adaptive_avg_pool3d", "adaptive_max_pool3d",
           "upsample_trilinear3d", "upsample_nearest3d")  # fmt: skip
RANK = {**dict.fromkeys(ONE_D, 1), **dict.fromkeys(TWO_D, 2), **dict.fromkeys(THREE_D, 3)}


@rule(*RANK)
def resample_map(axis_map: AxisMap, node: fx.Node) -> Result:
    """Replace the map, the last one, two or three axes; those before it pass."""
    x, rank = axis_map.axes_of(node.args[0]), RANK[operator_name(node)]
    freeze_axes(x[-rank:], MAP)
    shape = node.meta["shape"]
    if isinstance(shape, list):
        return [[*x[:-rank], *axis_map.new_frozen_axes(one[-rank:], MAP)] for one in shape]
    return [*x[:-rank], *axis_map.new_frozen_axes(shape[-rank:], MAP)]
