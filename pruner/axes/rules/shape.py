"""Operators that only rearrange: permute, concatenate, split, select, pad."""

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from ...graph import operator_arguments
from ..algebra import (
    UNIT,
    Axis,
    Sum,
    concatenate,
    freeze_axes,
    is_free,
    multiply,
    resolve_axis,
    split_sum,
)
from ..axis_map import Axes, AxisMap, Result
from .base import rule
from .reshape import RESHAPES

aten = torch.ops.aten
VIEWS = (*RESHAPES, "flatten", "permute", "transpose", "swapaxes", "t", "unsqueeze", "squeeze",
         "expand", "broadcast_to", "contiguous", "clone", "alias", "detach")  # fmt: skip
"""Operators whose result has the numbers of what they read, in another shape."""


@rule("permute", "transpose", "swapaxes", "t")
def permute(axis_map: AxisMap, node: fx.Node) -> Axes:
    """Put the axes in their new order."""
    x, (_, *dims) = list(axis_map.axes_of(node.args[0])), operator_arguments(node).values()
    if len(dims) == 1:
        return [x[d] for d in dims[0]]
    if not dims:
        return x[::-1]
    x[dims[0]], x[dims[1]] = x[dims[1]], x[dims[0]]
    return x


@rule("unsqueeze")
def unsqueeze(axis_map: AxisMap, node: fx.Node) -> Axes:
    """Insert an axis of size one."""
    x = list(axis_map.axes_of(node.args[0]))
    x.insert(operator_arguments(node)["dim"] % (len(x) + 1), UNIT)
    return x


@rule("squeeze")
def squeeze(axis_map: AxisMap, node: fx.Node) -> Axes:
    """Leave out the chosen axes that have size one; a cut to one leaves the others there."""
    x = axis_map.axes_of(node.args[0])
    dims = operator_arguments(node).get("dim", range(len(x)))
    chosen = {d % len(x) for d in ([dims] if isinstance(dims, int) else dims)}
    gone = {d for d in chosen if resolve_axis(x[d]).size == 1}
    stay = {d for d in chosen - gone if is_free(x[d])}
    if stay == chosen:
        node.target, node.args, node.kwargs = aten.alias.default, node.args[:1], {}
    elif stay:
        node.target = aten.squeeze.dims
        node.args, node.kwargs = (node.args[0], sorted(chosen - stay)), {}
    return [axis for d, axis in enumerate(x) if d not in gone]


@rule("expand", "broadcast_to")
def expand(axis_map: AxisMap, node: fx.Node) -> Axes:
    """Replace axes of size one by new ones; the rest pass."""
    x, shape = axis_map.axes_of(node.args[0]), axis_map.shape_of(node)
    given = node.args[1]
    assert isinstance(given, Sequence)
    padded = [UNIT] * (len(shape) - len(x)) + list(x)
    result: Axes = []
    for i, (axis, size) in enumerate(zip(padded, shape)):
        if resolve_axis(axis).size != size:
            batch = size == axis_map.program.batch
            axis = axis_map.batch if batch else axis_map.new_extent(node, (1, i), size)
        elif isinstance(given[i], int) and given[i] != -1:
            axis_map.set_symbolic(node, (1, i), axis)
        elif isinstance(given[i], fx.Node):
            axis_map.match_extent(given[i], axis, node)  # type: ignore[arg-type]
        result.append(axis)
    return result


@rule("repeat", "tile")
def repeat(axis_map: AxisMap, node: fx.Node) -> Result:
    """Put the whole axis so many times one after the other: copies * axis."""
    x, counts = axis_map.axes_of(node.args[0]), node.args[1]
    shape = axis_map.shape_of(node)
    offset = len(shape) - len(counts)  # type: ignore[arg-type]
    padded = [UNIT] * (len(shape) - len(x)) + list(x)
    result: Axes = []
    for i, (axis, size) in enumerate(zip(padded, shape)):
        old = resolve_axis(axis).size
        if old == size:
            result.append(axis)
        elif old == 1 and size == axis_map.program.batch:
            result.append(axis_map.batch)
        else:  # as many copies as what they meet has positions
            copies = axis_map.new_extent(node, (1, i - offset), size // old)
            result.append(multiply((copies, axis)))
    return result


@rule("repeat_interleave")
def repeat_interleave(axis_map: AxisMap, node: fx.Node) -> Result:
    """Put every position so many times before the next one: axis * copies."""
    args = operator_arguments(node)
    source, count, dim = args.get("self"), args["repeats"], args.get("dim")
    if dim is None or not isinstance(source, fx.Node):
        return axis_map.freeze_node(node, "repeat_interleave over all axes")
    x, dim = list(axis_map.axes_of(source)), dim % len(axis_map.axes_of(source))
    if not isinstance(count, int):
        reason = "counts of copies that differ"
        freeze_axes([x[dim], *axis_map.all_axes(count)], reason)
        x[dim] = axis_map.new_axis(axis_map.shape_of(node)[dim], reason)
        return x
    copies = axis_map.new_axis(count)
    x[dim] = multiply((x[dim], copies))
    axis_map.set_symbolic(node, (1,) if len(node.args) > 1 else ("repeats",), copies)
    return x


@rule("cat", "concat")
def cat(axis_map: AxisMap, node: fx.Node) -> Axes:
    """Concatenate along one axis; the others are one."""
    tensors = [axis_map.axes_of(source) for source in node.args[0]]  # type: ignore[union-attr]
    dim = operator_arguments(node)["dim"] % len(tensors[0])
    for other in tensors[1:]:
        for d, (x, y) in enumerate(zip(tensors[0], other)):
            if d != dim:
                axis_map.unify(x, y, node)
    result = list(tensors[0])
    result[dim] = concatenate([tensor[dim] for tensor in tensors])
    return result


@rule("stack")
def stack(axis_map: AxisMap, node: fx.Node) -> Axes:
    """Make the tensors' axes one and insert a frozen axis of the tensors."""
    tensors = [axis_map.axes_of(source) for source in node.args[0]]  # type: ignore[union-attr]
    for other in tensors[1:]:
        for x, y in zip(tensors[0], other):
            axis_map.unify(x, y, node)
    result = list(tensors[0])
    dim = operator_arguments(node)["dim"] % (len(result) + 1)
    result.insert(dim, axis_map.new_axis(len(tensors), "a stack of tensors"))
    return result


@rule("split_with_sizes", "split", "chunk")
def split_with_sizes(axis_map: AxisMap, node: fx.Node) -> Result:
    """Split an axis into parts, whose sizes follow them; the batch into parts that are frozen."""
    args, shapes = operator_arguments(node), node.meta["shape"]
    x = axis_map.axes_of(args["self"])
    dim = args["dim"] % len(x)
    sizes = args.get("split_sizes")
    if not isinstance(sizes, Sequence) or not all(isinstance(size, int) for size in sizes):
        freeze_axes([x[dim]], "split into parts whose sizes are computed in the graph")
        parts = [axis_map.new_axis(shape[dim], "a part of a split") for shape in shapes]
        return [[*x[:dim], part, *x[dim + 1 :]] for part in parts]
    rest, results = x[dim], []
    for i, size in enumerate(sizes):
        pieces = split_sum(rest, size)
        if pieces is None:
            reason = "a split that cuts across joined axes"
            freeze_axes([x[dim]], reason)
            parts = [axis_map.new_axis(shape[dim], reason) for shape in shapes]
            return [[*x[:dim], part, *x[dim + 1 :]] for part in parts]
        axis_map.set_symbolic(node, (1, i), pieces[0])
        results.append([*x[:dim], pieces[0], *x[dim + 1 :]])
        rest = pieces[1]
    return results


def split_range(
    axis_map: AxisMap, node: fx.Node, axis: Axis, start: int, size: int, place: int
) -> Axis | None:
    """Split a range off an axis, whose bounds stand at two places of a node; None: it cannot be."""
    first = split_sum(axis, start)
    second = split_sum(first[1], size) if first else None
    if first is None or second is None:
        return None
    axis_map.set_symbolic(node, (place,), first[0])
    axis_map.set_symbolic(node, (place + 1,), concatenate([first[0], second[0]]))
    return second[0]


@rule("slice")
def slice_(axis_map: AxisMap, node: fx.Node) -> Result:
    """Split the part between two constant bounds off, which follow it; freeze other slices."""
    args = operator_arguments(node)
    x = axis_map.axes_of(node.args[0])
    dim = args["dim"] % len(x)
    axis, size = resolve_axis(x[dim]), axis_map.shape_of(node)[dim]
    if axis.size == size:
        return x
    start, end = args["start"], args["end"]
    plain = all(isinstance(one, int | None) for one in (start, end)) and args["step"] == 1
    if not is_free(axis) or not plain:
        freeze_axes([axis], "sliced")
        return [*x[:dim], axis_map.new_axis(size, "sliced"), *x[dim + 1 :]]
    begin, _, _ = slice(start, end).indices(axis.size)
    kept = split_range(axis_map, node, axis, begin, size, place=2)
    if kept is None:
        reason = "a slice that cuts across joined axes"
        freeze_axes([axis], reason)
        return [*x[:dim], axis_map.new_axis(size, reason), *x[dim + 1 :]]
    node.args, node.kwargs = (node.args[0], dim, begin, begin + size, 1), {}
    return [*x[:dim], kept, *x[dim + 1 :]]


@rule("select", "unbind")
def select(axis_map: AxisMap, node: fx.Node) -> Result:
    """Freeze and leave out the axis that is selected from."""
    x, shape = axis_map.axes_of(node.args[0]), node.meta["shape"]
    dim = operator_arguments(node)["dim"] % len(x)
    freeze_axes([x[dim]], "selected from")
    rest = [*x[:dim], *x[dim + 1 :]]
    return [list(rest) for _ in shape] if isinstance(shape, list) else rest


@rule("getitem")
def getitem(axis_map: AxisMap, node: fx.Node) -> Result:
    """Return the axes of one of several results."""
    source, index = node.args
    assert node.target is operator.getitem and isinstance(index, int)
    return axis_map.axes[source][index]  # type: ignore[index, no-any-return]


@rule("index")
def index(axis_map: AxisMap, node: fx.Node) -> Result:
    """Put the shape of index tensors in the place of the run of axes that they index."""
    x = axis_map.axes_of(node.args[0])
    around = freeze_indexed(axis_map, x, node.args[1])
    if around is None:
        return axis_map.freeze_node(node, "indexing by separated axes")
    shape, (before, after) = axis_map.shape_of(node), around
    middle = shape[before : len(shape) - after]
    return [*x[:before], *axis_map.new_frozen_axes(middle, "indexed"), *x[len(x) - after :]]


def freeze_indexed(axis_map: AxisMap, x: Axes, indices: Any) -> tuple[int, int] | None:
    """Freeze a run of axes that index tensors index, and these; return how many are around it.

    None: they are no run.
    """
    used = [d for d, one in enumerate(indices) if one is not None]
    if not used or used != list(range(used[0], used[-1] + 1)):
        return None
    freeze_axes([x[d] for d in used], "indexed")
    for d in used:
        freeze_axes(axis_map.all_axes(indices[d]), "an index")
    return used[0], len(x) - used[-1] - 1


@rule("pad", "constant_pad_nd")
def pad(axis_map: AxisMap, node: fx.Node) -> Result:
    """Add constants on both sides; along channels they are parts of a Sum and may be cut too."""
    args = operator_arguments(node)
    x, pads = axis_map.axes_of(node.args[0]), args["pad"]
    mode = args.get("mode", "constant")
    result, shape = list(x), axis_map.shape_of(node)
    for i in range(len(pads) // 2):
        d = len(x) - 1 - i
        before, after = pads[2 * i], pads[2 * i + 1]
        if before == after == 0:
            continue
        numbers = all(isinstance(n, int) and n >= 0 for n in (before, after))
        if not numbers or mode != "constant" or not is_free(x[d]):
            freeze_axes([x[d]], "padded")
            result[d] = axis_map.new_axis(shape[d], "padded")
            continue
        sides = [axis_map.new_axis(n) if n else Sum(()) for n in (before, after)]
        for k, side in enumerate(sides):
            if side.size:
                axis_map.set_symbolic(node, (1, 2 * i + k), side)
        result[d] = concatenate([sides[0], x[d], sides[1]])
    return result
