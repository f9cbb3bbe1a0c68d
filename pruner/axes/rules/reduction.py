"""Reductions, softmax and scans: what runs along an axis."""

from typing import Any

from torch import fx

from ...graph import operator_arguments, operator_name
from ..algebra import UNIT, freeze_axes
from ..axis_map import Axes, AxisMap, Result
from .base import rule
from .elementwise import match_pointwise

VECTOR_NORMS = ("linalg_vector_norm", "norm")
REDUCTIONS = (
    "mean", "sum", "amax", "amin", "var", "std", "var_mean", "std_mean", "logsumexp",
    *VECTOR_NORMS,
)  # fmt: skip
"""Defined over any number of positions: their axis may be cut, as a normalization's may."""

COUNTS = ("any", "all", "prod", "nansum", "count_nonzero", "aminmax")
"""Reductions too, of which engines run the less frequent ones with what is around them."""

EXTREMES = ("max", "min", "median", "nanmedian")
"""Reductions too, unless the positions that they find are read."""

POSITIONS = ("argmax", "argmin")
"""What they give are positions themselves: their axis may not be cut."""


def _read_dims(dims: Any, rank: int) -> set[int]:
    """Return the axes that an operator is given, counted from the front; none given: all."""
    chosen = range(rank) if dims in (None, []) else [dims] if isinstance(dims, int) else dims
    return {d % rank for d in chosen} if rank else set()


@rule(*REDUCTIONS, *COUNTS, *EXTREMES, *POSITIONS)
def reduce(axis_map: AxisMap, node: fx.Node) -> Result:
    """End the axes that are reduced over; the others pass."""
    args, x = operator_arguments(node), axis_map.axes_of(node.args[0])
    if "other" in args:  # max and min of two tensors: element-wise
        return match_pointwise(axis_map, node)
    reduced = _read_dims(args.get("dim"), len(x))
    name = operator_name(node)
    if name in (*REDUCTIONS, *COUNTS) or (name in EXTREMES and not _reads_positions(node)):
        axis_map.reduction_axes[node] = tuple(sorted(reduced))
    else:
        freeze_axes([x[d] for d in reduced], f"reduced by {name}")
    kept: Axes = [
        UNIT if d in reduced else axis
        for d, axis in enumerate(x)
        if d not in reduced or args.get("keepdim")
    ]
    shape = node.meta["shape"]
    return [list(kept) for _ in shape] if isinstance(shape, list) else kept


def _reads_positions(node: fx.Node) -> bool:
    """Whether more of an extreme is read than its value."""
    several = isinstance(node.meta["shape"], list)
    return several and any(operator_name(u) != "getitem" or u.args[1] != 0 for u in node.users)


SOFTMAXES = ("softmax", "log_softmax", "_softmax", "_log_softmax")


@rule(*SOFTMAXES)
def softmax(axis_map: AxisMap, node: fx.Node) -> Axes:
    """Let softmax run over what is left of its axis, like a normalization."""
    x = axis_map.axes_of(node.args[0])
    if x:
        axis_map.reduction_axes[node] = (operator_arguments(node)["dim"] % len(x),)
    return list(x)


FOURIER = tuple(
    f"fft_{name}{rank}" for name in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
    for rank in ("", "2", "n")
)  # fmt: skip


@rule(*FOURIER, "fft_fftshift", "fft_ifftshift", "_fft_r2c", "_fft_c2r", "_fft_c2c")
def transform(axis_map: AxisMap, node: fx.Node) -> Result:
    """Freeze the axes that are transformed, in both sizes; the others pass."""
    args, x, shape = operator_arguments(node), axis_map.axes_of(node.args[0]), node.meta["shape"]
    dims, sizes = args.get("dim"), args.get("s")
    if dims is None and sizes is not None:
        dims = list(range(-len(sizes), 0))
    worked, reason = _read_dims(dims, len(x)), f"transformed by {operator_name(node)}"
    freeze_axes([x[d] for d in worked], reason)
    return [
        axis_map.new_axis(shape[d], reason) if d in worked else axis for d, axis in enumerate(x)
    ]


@rule("cumsum", "cumprod", "flip", "roll", "sort", "argsort", "topk", "kthvalue", "tril", "triu",
      "cummax", "cummin", "logcumsumexp", "rot90", "mode")  # fmt: skip
def freeze_ordered_axis(axis_map: AxisMap, node: fx.Node) -> Result:
    """Freeze the axes whose positions are put in order, in both sizes; the others pass."""
    args, name, x = operator_arguments(node), operator_name(node), axis_map.axes_of(node.args[0])
    dims = [-2, -1] if name in ("tril", "triu") else args.get("dim", args.get("dims"))
    worked, reason = _read_dims(dims, len(x)), f"worked along by {name}"
    freeze_axes([x[d] for d in worked], reason)

    def resize(shape: tuple[int, ...]) -> Axes:
        return [
            axis_map.new_axis(shape[d], reason) if d in worked and shape[d] != axis.size else axis
            for d, axis in enumerate(x)
        ]

    shape = node.meta["shape"]
    if isinstance(shape, list):
        return [resize(one) if len(one) == len(x) else [] for one in shape]
    return resize(shape) if len(shape) == len(x) else axis_map.freeze_node(node, "a changed shape")


@rule("cross", "linalg_cross")
def cross(axis_map: AxisMap, node: fx.Node) -> Result:
    """Freeze the axis of the three coordinates; the others are those of both vectors."""
    x, y = (axis_map.axes_of(source) for source in node.args[:2])
    dim = operator_arguments(node)["dim"]
    if dim is None or len(x) != len(y):
        return axis_map.freeze_node(node, "a cross product over an axis that is looked for")
    freeze_axes((x[dim], y[dim]), "coordinates of a cross product")
    return match_pointwise(axis_map, node)
