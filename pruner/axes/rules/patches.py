"""Operators between channels and map: patches, pixel shuffle, sampling, gathers."""

import torch
from torch import fx

from ...graph import operator_arguments, operator_name
from ..algebra import (
    UNIT,
    Atom,
    freeze_axes,
    multiply,
    resolve_axis,
    split_product,
    split_sum,
)
from ..axis_map import Axes, AxisMap, Result
from .base import rule
from .contraction import KERNEL, MAP
from .shape import freeze_indexed, split_range


@rule("im2col")
def im2col(axis_map: AxisMap, node: fx.Node) -> Axes:
    """Relate [..., C, H, W] -> [..., C * kernel, positions]."""
    x, shape = axis_map.axes_of(node.args[0]), axis_map.shape_of(node)
    freeze_axes(x[-2:], MAP)
    kernel = Atom(shape[-2] // max(x[-3].size, 1), KERNEL)
    return [*x[:-3], multiply((x[-3], kernel)), *axis_map.new_inner_axes(shape[-1:], MAP)]


@rule("col2im")
def col2im(axis_map: AxisMap, node: fx.Node) -> Result:
    """Relate [..., C * kernel, positions] -> [..., C, H, W]."""
    x, shape = axis_map.axes_of(node.args[0]), axis_map.shape_of(node)
    freeze_axes(x[-1:], MAP)
    pieces = split_product(x[-2], shape[-3])
    if pieces is None:
        return axis_map.freeze_node(node, "patches that cut across joined channels")
    freeze_axes(pieces[1:], KERNEL)
    return [*x[:-2], pieces[0], *axis_map.new_inner_axes(shape[-2:], MAP)]


@rule("unfold")
def unfold(axis_map: AxisMap, node: fx.Node) -> Axes:
    """Put the number of windows in the place of an axis, their extent at the end."""
    args = operator_arguments(node)
    x, shape = list(axis_map.axes_of(node.args[0])), axis_map.shape_of(node)
    dim = args["dimension"] % len(x)
    freeze_axes([x[dim]], MAP)
    x[dim] = axis_map.new_axis(shape[dim], MAP)
    return [*x, axis_map.new_axis(shape[-1], KERNEL)]


@rule("pixel_shuffle")
def pixel_shuffle(axis_map: AxisMap, node: fx.Node) -> Result:
    """Relate [..., C * r * r, H, W] -> [..., C, H * r, W * r]."""
    x, shape = axis_map.axes_of(node.args[0]), axis_map.shape_of(node)
    pieces = split_product(x[-3], shape[-3])
    if pieces is None:
        return axis_map.freeze_node(node, "a pixel shuffle that cuts across joined channels")
    freeze_axes((pieces[1], *x[-2:]), MAP)
    return [*x[:-3], pieces[0], *axis_map.new_inner_axes(shape[-2:], MAP)]


@rule("pixel_unshuffle")
def pixel_unshuffle(axis_map: AxisMap, node: fx.Node) -> Axes:
    """Relate [..., C, H * r, W * r] -> [..., C * r * r, H, W]."""
    x, shape = axis_map.axes_of(node.args[0]), axis_map.shape_of(node)
    freeze_axes(x[-2:], MAP)
    inner = Atom(shape[-3] // x[-3].size, MAP)
    return [*x[:-3], multiply((x[-3], inner)), *axis_map.new_inner_axes(shape[-2:], MAP)]


@rule("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(axis_map: AxisMap, node: fx.Node) -> Result:
    """Relate groups * c -> c * groups."""
    x, groups = axis_map.axes_of(node.args[0]), operator_arguments(node)["groups"]
    pieces = split_product(x[1], groups)
    if pieces is None:
        return axis_map.freeze_node(node, "a shuffle that cuts across joined channels")
    place = 1 if len(node.args) > 1 else "groups"
    axis_map.set_symbolic(node, (place,), pieces[0])
    return [x[0], multiply((pieces[1], pieces[0])), *x[2:]]


@rule("glu")
def glu(axis_map: AxisMap, node: fx.Node) -> Result:
    """Make the two halves of an axis one: first * sigmoid(second)."""
    x = list(axis_map.axes_of(node.args[0]))
    dim = operator_arguments(node)["dim"] % len(x)
    halves = split_sum(x[dim], x[dim].size // 2)
    if halves is None:
        return axis_map.freeze_node(node, "a gate that cuts across joined channels")
    axis_map.unify(*halves, node)
    x[dim] = halves[0]
    return x


@rule("grid_sampler", "grid_sampler_2d", "grid_sampler_3d")
def grid_sampler(axis_map: AxisMap, node: fx.Node) -> Result:
    """Relate input [N, C, *map] and grid [N, *out, rank] -> [N, C, *out]."""
    x, grid = axis_map.axes_of(node.args[0]), axis_map.axes_of(node.args[1])
    freeze_axes((*x[2:], *grid[1:]), MAP)
    axis_map.unify(x[0], grid[0], node)
    return [*x[:2], *grid[1:-1]]


@rule("gather", "take_along_dim")
def gather(axis_map: AxisMap, node: fx.Node) -> Result:
    """Freeze the axis that is gathered from; the others are those of the index."""
    args = operator_arguments(node)
    index = args["index"] if "index" in args else args["indices"]
    x, chosen = axis_map.axes_of(node.args[0]), axis_map.axes_of(index)
    if args["dim"] is None or len(x) != len(chosen):
        return axis_map.freeze_node(node, f"{operator_name(node)} over all axes")
    dim = args["dim"] % len(x)
    for d, (mine, theirs) in enumerate(zip(x, chosen)):
        if d == dim:
            freeze_axes((mine, theirs), "gathered from")
        elif mine.size == theirs.size:
            axis_map.unify(mine, theirs, node)
        else:
            return axis_map.freeze_node(node, f"{operator_name(node)} of a part")
    return [axis if d == dim else x[d] for d, axis in enumerate(chosen)]


@rule("index_select")
def index_select(axis_map: AxisMap, node: fx.Node) -> Axes:
    """Freeze the axis that is indexed; the others pass."""
    args = operator_arguments(node)
    x = list(axis_map.axes_of(node.args[0]))
    dim = args["dim"] % len(x)
    freeze_axes([x[dim], *axis_map.axes_of(args["index"])], "indexed")
    x[dim] = axis_map.new_axis(axis_map.shape_of(node)[dim], "indexed")
    return x


@rule("scatter", "scatter_add", "scatter_reduce", "index_add", "index_copy", "index_fill",
      "index_reduce", "select_scatter")  # fmt: skip
def scatter(axis_map: AxisMap, node: fx.Node) -> Result:
    """Freeze the axis that is written along; the others are those of what is written."""
    args, name = operator_arguments(node), operator_name(node)
    x = list(axis_map.axes_of(node.args[0]))
    dim, reason = args["dim"] % len(x), f"written along by {name}"
    freeze_axes([x[dim]], reason)
    for source in node.all_input_nodes[1:]:
        axes = axis_map.axes_of(source)
        if name == "select_scatter":
            axes = [*axes[:dim], UNIT, *axes[dim:]]
        if len(axes) != len(x):  # an index along one axis
            freeze_axes(axes, reason)
            continue
        freeze_axes([axes[dim]], reason)
        for d, (mine, theirs) in enumerate(zip(x, axes)):
            if d != dim and mine.size != theirs.size:
                return axis_map.freeze_node(node, f"{name} of a part")
            if d != dim:
                axis_map.unify(mine, theirs, node)
    return x


@rule("index_put")
def index_put(axis_map: AxisMap, node: fx.Node) -> Result:
    """Freeze the run of axes that is written by index; what is written has those around it."""
    args = operator_arguments(node)
    x, written, indices = axis_map.axes_of(args["self"]), axis_map.axes_of(args["values"]), []
    for one in args["indices"]:
        indices.append(one)
        if one is not None and one.meta.get("dtype") is torch.bool:
            return axis_map.freeze_node(node, "a write to positions that depend on data")
    around = freeze_indexed(axis_map, x, indices)
    if around is None:
        return axis_map.freeze_node(node, "indexing by separated axes")
    rank = max(len(axis_map.axes_of(one)) for one in indices if one is not None)
    before, after = around
    for place, theirs in enumerate(reversed(written)):
        outer = place - after - rank
        if place < after:
            mine = x[len(x) - 1 - place]
        elif outer < 0:
            freeze_axes([theirs], "indexed")
            continue
        else:
            mine = x[before - 1 - outer]
        if resolve_axis(theirs).size > 1:
            axis_map.unify(mine, theirs, node)
    return list(x)


@rule("diagonal")
def diagonal(axis_map: AxisMap, node: fx.Node) -> Result:
    """Freeze the two axes of a diagonal, which becomes the last; the others pass."""
    args, x = operator_arguments(node), axis_map.axes_of(node.args[0])
    pair = {args["dim1"] % len(x), args["dim2"] % len(x)}
    freeze_axes([x[d] for d in pair], "a diagonal is taken of it")
    rest = [axis for d, axis in enumerate(x) if d not in pair]
    return [*rest, axis_map.new_axis(axis_map.shape_of(node)[-1], "a diagonal")]


@rule("slice_scatter")
def slice_scatter(axis_map: AxisMap, node: fx.Node) -> Result:
    """Relate a tensor to what is written over a part of one of its axes."""
    args = operator_arguments(node)
    x, written = axis_map.axes_of(node.args[0]), axis_map.axes_of(args["src"])
    dim, size = args["dim"] % len(x), x[args["dim"]].size
    start, end = args["start"], args["end"]
    plain = all(isinstance(one, int | None) for one in (start, end)) and args["step"] == 1
    if not plain:
        return axis_map.freeze_node(node, "a write to computed positions")
    start, end, _ = slice(start, end).indices(size)
    for d, (mine, theirs) in enumerate(zip(x, written)):
        if d != dim:
            axis_map.unify(mine, theirs, node)
    part = split_range(axis_map, node, x[dim], start, end - start, place=3)
    if part is None:
        return axis_map.freeze_node(node, "a write that cuts across joined axes")
    axis_map.unify(part, written[dim], node)
    node.args, node.kwargs = (node.args[0], args["src"], dim, start, end, 1), {}
    return list(x)


@rule("masked_scatter")
def masked_scatter(axis_map: AxisMap, node: fx.Node) -> Result:
    """Relate x [..., width] to rows [..., width] that are put where a mask is one, in order.

    A mask that says the same of all positions of a row takes whole rows, whose width may be cut.
    Such a one is taken as it was before its expansion.
    """
    args = operator_arguments(node)
    x, rows = axis_map.axes_of(args["self"]), axis_map.axes_of(args["source"])
    mask = _find_row_mask(args["mask"])
    if mask is None or not x or not rows or x[-1].size != rows[-1].size:
        return axis_map.freeze_node(node, "single positions that depend on data")
    node.args, node.kwargs = (args["self"], mask, args["source"]), {}
    freeze_axes((*x[:-1], *rows[:-1]), "rows that depend on data")
    axis_map.unify(x[-1], rows[-1], node)
    return list(x)


def _find_row_mask(mask: fx.Node) -> fx.Node | None:
    """Return the mask [..., 1] that a mask is, or that is expanded to it; None where none is."""
    while mask.meta["shape"][-1:] != (1,):
        source = mask.args[0] if mask.op == "call_function" and mask.args else None
        if operator_name(mask) not in _EXPANSIONS or not isinstance(source, fx.Node):
            return None
        mask = source
    return mask if mask.meta.get("dtype") == torch.bool else None


_EXPANSIONS = ("expand", "expand_as", "broadcast_to", "to", "_to_copy", "clone", "contiguous",
               "alias", "detach")  # fmt: skip
