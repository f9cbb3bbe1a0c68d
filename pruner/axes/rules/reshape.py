"""Reshapes: the row-major product of axes, taken apart anew."""

from collections.abc import Sequence
from math import prod

from torch import fx

from ...graph import operator_arguments, operator_name
from ..algebra import Axis, freeze_axes, is_free, merge_frozen, multiply, split_product
from ..axis_map import Axes, AxisMap, Result
from .base import rule
from .computed_sizes import follow_batch_multiple

RESHAPES = ("view", "reshape", "_unsafe_view", "unflatten")


@rule(*RESHAPES, "flatten", "reshape_as", "view_as")
def reshape(axis_map: AxisMap, node: fx.Node) -> Result:
    """Split the row-major product of all axes anew from the left."""
    x, shape = axis_map.axes_of(node.args[0]), axis_map.shape_of(node)
    result = _split_axes(multiply(x), shape)
    if result is None:  # a map that was cut into windows in another way
        result = _split_axes(multiply(merge_frozen(x, axis_map.batch)), shape)
    result = _split_runs(axis_map, x, shape) if result is None else result
    _follow_target(axis_map, node, result)
    return result


def _split_axes(rest: Axis, shape: Sequence[int]) -> Axes | None:
    """Split an axis into factors of these sizes; None where it cannot be."""
    result: Axes = []
    for size in shape:
        pieces = split_product(rest, size)
        if pieces is None:
            return None
        result.append(pieces[0])
        rest = pieces[1]
    return result


def _split_runs(axis_map: AxisMap, x: Axes, shape: Sequence[int]) -> Axes:
    """Split axes anew, run by run as large in both shapes; freeze the runs that cannot be split."""
    result: Axes = []
    old, reason = list(x), "a reshape that cuts across axes"
    while old or len(result) < len(shape):
        run, sizes = old[:1], list(shape[len(result) : len(result) + 1])
        while prod(a.size for a in run) != prod(sizes):
            if prod(a.size for a in run) < prod(sizes):
                run.append(old[len(run)])
            else:
                sizes.append(shape[len(result) + len(sizes)])
        del old[: len(run)]
        merged = merge_frozen(run, axis_map.batch)
        new = _split_axes(multiply(run), sizes) or _split_axes(multiply(merged), sizes)
        if new is None:
            freeze_axes(run, reason)
            new = axis_map.new_frozen_axes(tuple(sizes), reason)
        result += new
    return result


def _follow_target(axis_map: AxisMap, node: fx.Node, axes: Axes) -> None:
    """Let the numbers in the target shape follow their axes."""
    name = operator_name(node)
    if name in ("flatten", "reshape_as", "view_as"):
        return
    if name == "unflatten":
        args = operator_arguments(node)
        dim = args["dim"] % len(axis_map.axes_of(args["self"]))
        place, given = 2, list(args["sizes"])
        axes = axes[dim : dim + len(given)]
    else:
        place, given = 1, list(node.args[1])  # type: ignore[arg-type]
    before = list(given)
    computed = [
        i for i, number in enumerate(given) if isinstance(number, fx.Node) and is_free(axes[i])
    ]
    if len(computed) == 1 and -1 not in given:  # e.g. batch * heads, folded into one axis
        given[computed[0]] = -1
    else:
        for i in computed:
            given[i] = follow_batch_multiple(axis_map, node, given[i], axes[i]) or given[i]
    if computed:
        node.args = (*node.args[:place], given, *node.args[place + 1 :])
    for i, number in enumerate(given):
        if isinstance(number, fx.Node) and number is before[i]:  # a new one follows already
            axis_map.match_extent(number, axes[i], node)
        if isinstance(number, int) and number != -1:
            axis_map.set_symbolic(node, (place, i), axes[i])
