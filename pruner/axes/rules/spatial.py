"""Pooling, resampling and what else moves within a map: channels pass, extents are frozen."""

from torch import fx

from ...graph import operator_arguments, operator_name
from ..algebra import Axis, concatenate, freeze_axes, is_free, parts_of, split_product
from ..axis_map import Axes, AxisMap, Result
from .base import rule
from .contraction import KERNEL, MAP

POOLS = {
    1: ("max_pool1d", "avg_pool1d", "adaptive_avg_pool1d", "adaptive_max_pool1d", "lp_pool1d",
        "max_pool1d_with_indices"),
    2: ("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "lp_pool2d",
        "max_pool2d_with_indices", "_adaptive_avg_pool2d"),
    3: ("max_pool3d", "avg_pool3d", "adaptive_avg_pool3d", "adaptive_max_pool3d", "lp_pool3d",
        "max_pool3d_with_indices", "_adaptive_avg_pool3d"),
}  # fmt: skip
UPSAMPLES = {
    1: ("upsample_linear1d", "upsample_nearest1d", "upsample_nearest_exact1d"),
    2: ("upsample_bilinear2d", "upsample_nearest2d", "upsample_nearest_exact2d",
        "upsample_bicubic2d"),
    3: ("upsample_trilinear3d", "upsample_nearest3d", "upsample_nearest_exact3d"),
}  # fmt: skip
OTHERS = {
    1: ("_upsample_nearest_exact1d", "reflection_pad1d", "replication_pad1d"),
    2: ("_upsample_nearest_exact2d", "_upsample_bicubic2d_aa", "_upsample_bilinear2d_aa",
        "reflection_pad2d", "replication_pad2d"),
    3: ("_upsample_nearest_exact3d", "reflection_pad3d", "replication_pad3d"),
}  # fmt: skip
RANK = {name: rank for table in (POOLS, UPSAMPLES, OTHERS)
        for rank, names in table.items() for name in names}  # fmt: skip
"""Operators that replace a map -> how many axes it has."""

AVERAGES = ("avg_pool1d", "avg_pool2d", "avg_pool3d")
UNPOOLINGS = ("max_unpool2d", "max_unpool3d")
POOLINGS = frozenset(name for names in POOLS.values() for name in names).union(UNPOOLINGS)
UPSAMPLINGS = frozenset(name for names in UPSAMPLES.values() for name in names)


@rule(*RANK)
def resample_map(axis_map: AxisMap, node: fx.Node) -> Result:
    """Replace the map, the last one, two or three axes; those before it pass."""
    x, rank = axis_map.axes_of(node.args[0]), RANK[operator_name(node)]
    shape = node.meta["shape"]
    if operator_name(node) in AVERAGES:
        return _average(axis_map, node, x, rank)
    freeze_axes(x[-rank:], MAP)
    if isinstance(shape, list):
        return [[*x[:-rank], *axis_map.new_inner_axes(one[-rank:], MAP)] for one in shape]
    return [*x[:-rank], *axis_map.new_inner_axes(shape[-rank:], MAP)]


def _average(axis_map: AxisMap, node: fx.Node, x: Axes, rank: int) -> Axes:
    """Relate a map and its averages: what no window spans passes, all else is frozen but for one.

    Windows over channels that are padded to keep their number are those of a local response
    normalization: it runs over the channels that are left, as every normalization does.
    """
    args, shape = operator_arguments(node), axis_map.shape_of(node)
    kernel, stride, padding = (
        [value] * rank if isinstance(value, int) else list(value) or list(args["kernel_size"])
        for value in (args["kernel_size"], args["stride"], args["padding"])
    )
    result = list(x)
    for i in range(rank):
        d, k = len(x) - rank + i, kernel[i % len(kernel)]
        if stride[i % len(stride)] == 1 and padding[i % len(padding)] == 0:
            if k == 1:
                continue
            inner = _find_padded(args["self"], x[d], len(x) - 1 - d, k)
            if inner is not None:
                axis_map.reduction_axes[node] = (*axis_map.reduction_axes.get(node, ()), d)
                result[d] = inner
                continue
        freeze_axes([x[d]], MAP)
        (result[d],) = axis_map.new_inner_axes(shape[d : d + 1], MAP)
    return result


def _find_padded(source: fx.Node, axis: Axis, place: int, window: int) -> Axis | None:
    """Return what was padded with zeros so that windows of step one keep its size, if it was.

    Args:
        source: What the windows are of.
        axis: Its axis.
        place: That axis counted from the last one, which is 0.
        window: The number of positions in a window.
    """
    if operator_name(source) not in ("pad", "constant_pad_nd") or not is_free(axis):
        return None
    args, parts = operator_arguments(source), parts_of(axis)
    before, after = (*args["pad"], *[0] * 2 * (place + 1))[2 * place : 2 * place + 2]
    plain = args.get("mode", "constant") == "constant" and not args.get("value")
    if not plain or before + after != window - 1 or len(parts) <= bool(before) + bool(after):
        return None
    return concatenate(parts[bool(before) : len(parts) - bool(after)])


@rule(*UNPOOLINGS)
def unpool(axis_map: AxisMap, node: fx.Node) -> Result:
    """Put a map's values at places within each channel's larger map: channels pass."""
    x, places = (axis_map.axes_of(source) for source in node.args[:2])
    rank = 3 if operator_name(node) == "max_unpool3d" else 2
    freeze_axes((*x[-rank:], *places[-rank:]), MAP)
    for mine, theirs in zip(x[:-rank], places[:-rank], strict=True):
        axis_map.unify(mine, theirs, node)
    return [*x[:-rank], *axis_map.new_inner_axes(axis_map.shape_of(node)[-rank:], MAP)]


@rule("affine_grid_generator")
def affine_grid(axis_map: AxisMap, node: fx.Node) -> Result:
    """Freeze a grid that is computed from matrices."""
    return axis_map.freeze_node(node, MAP)


@rule("roi_align", "roi_pool")
def pool_regions(axis_map: AxisMap, node: fx.Node) -> Result:
    """Relate x [N, C, H, W] and regions [K, 5] -> [K, C, h, w], beside it the places of maxima."""
    return _pool_regions(axis_map, node, axis_map.axes_of(node.args[0])[1])


@rule("ps_roi_align", "ps_roi_pool")
def pool_region_parts(axis_map: AxisMap, node: fx.Node) -> Result:
    """Relate x [N, C * h * w, H, W] and regions [K, 5] -> [K, C, h, w]: a channel for each part."""
    shape, channels = node.meta["shape"][0], axis_map.axes_of(node.args[0])[1]
    pieces = split_product(channels, shape[1])
    if pieces is None:
        return axis_map.freeze_node(node, "parts of regions that cut across joined channels")
    freeze_axes(pieces[1:], "the parts of a region")
    return _pool_regions(axis_map, node, pieces[0])


def _pool_regions(axis_map: AxisMap, node: fx.Node, channels: Axis) -> Result:
    """Return the axes of a pooling of regions to these channels; everything else is frozen."""
    x, regions = (axis_map.axes_of(source) for source in node.args[:2])
    freeze_axes((x[0], *x[2:], *regions), MAP)
    shape = node.meta["shape"]
    results = [
        [regions[0], channels, *axis_map.new_inner_axes(one[2:], MAP)]
        for one in (shape if isinstance(shape, list) else [shape])
    ]
    return results if isinstance(shape, list) else results[0]


@rule("deform_conv2d")
def deform_convolution(axis_map: AxisMap, node: fx.Node) -> Result:
    """Relate x [N, in, H, W] and weight [out, in / groups, h, w]; offsets and mask are of the map.

    Groups, of weights and of offsets, stay; every one of them is cut alike.
    """
    args = operator_arguments(node)
    x, weight = axis_map.axes_of(args["input"]), axis_map.axes_of(args["weight"])
    for name in ("offset", "mask"):
        freeze_axes(axis_map.axes_of(args[name])[1:], MAP)
    freeze_axes(x[2:], MAP)
    freeze_axes(weight[2:], KERNEL)
    groups = args["groups"]
    moved = split_product(x[1], args["offset_groups"])
    split, written = split_product(x[1], groups), split_product(weight[0], groups)
    if moved is None or split is None or written is None:
        return axis_map.freeze_node(node, f"{groups} groups that cut across joined channels")
    freeze_axes((moved[0], split[0], written[0]), "groups of a deformable convolution")
    axis_map.unify(split[1], weight[1], node)
    for i, role in enumerate(("out", "in")):
        axis_map.set_role(args["weight"], i, role)
    axis_map.unify(axis_map.axes_of(args["bias"])[0], weight[0], node)
    axis_map.set_role(args["bias"], 0, "out")
    return [x[0], weight[0], *axis_map.new_inner_axes(axis_map.shape_of(node)[2:], MAP)]
