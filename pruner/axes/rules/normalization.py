"""Batch, layer, group and RMS normalization."""

from __future__ import annotations

from torch import fx

from ...graph import arguments
from ..algebra import split_product
from .base import Axes, Reading, Result, rule


@rule("batch_norm", "instance_norm")
def batch_norm(reading: Reading, node: fx.Node) -> Axes:
    """Scale, shift and statistics go with the channels (axis 1)."""
    args = arguments(node)
    x = reading.of(args["input"])
    for name in ("weight", "bias", "running_mean", "running_var"):
        _along(reading, node, args[name], x[1:2])
    if args.get("training") or args.get("use_input_stats"):  # weights are standardized so
        reading.along[node] = tuple(range(2, len(x)))
    return x


@rule("layer_norm", "rms_norm")
def layer_norm(reading: Reading, node: fx.Node) -> Axes:
    """Over the last axes; their sizes stand in ``normalized_shape``."""
    args = arguments(node)
    x, count = reading.of(args["input"]), len(args["normalized_shape"])
    reading.along[node] = tuple(range(len(x) - count, len(x)))
    for name in ("weight", "bias"):
        _along(reading, node, args.get(name), x[-count:])
    for i, axis in enumerate(x[-count:]):
        reading.literal(node, (1, i), axis)
    return x


@rule("group_norm")
def group_norm(reading: Reading, node: fx.Node) -> Result:
    """Groups can go as a whole; channels can go from every group alike."""
    args = arguments(node)
    x = reading.of(args["input"])
    split = split_product(x[1], args["num_groups"])
    if split is None:
        return reading.give_up(node, "a group norm whose groups cut across joined channels")
    reading.along[node] = (1,)
    for name in ("weight", "bias"):
        _along(reading, node, args[name], x[1:2])
    reading.literal(node, (1,), split[0])
    return x


def _along(reading: Reading, node: fx.Node, tensor: fx.Node | None, axes: Axes) -> None:
    if tensor is None:
        return
    for i, (mine, theirs) in enumerate(zip(reading.of(tensor), axes)):
        reading.unify(mine, theirs, node)
        reading.role(tensor, i, "norm")
