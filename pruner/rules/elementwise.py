"""Operators that work position by position, with broadcasting."""

from __future__ import annotations

from torch import fx

from ..axes import resolve
from .base import Axes, Reading, rule

SAME_SHAPE = (
    "dropout", "feature_dropout", "alpha_dropout", "contiguous", "alias", "clone", "to", "detach",
    "lift_fresh_copy", "type_as", "masked_fill", "where", "_to_copy", "expand_as", "hardswish",
)  # fmt: skip


@rule(*SAME_SHAPE)
def pointwise(reading: Reading, node: fx.Node) -> Axes:
    """Every axis of an input is that of the output, but for broadcast ones of size one."""
    shape = reading.shape(node)
    result: Axes = [reading.fresh(size) for size in shape]
    for source in node.all_input_nodes:
        axes = reading.axes.get(source)
        if not isinstance(axes, list) or len(axes) > len(shape):
            continue
        for i, axis in enumerate(axes, len(shape) - len(axes)):
            if resolve(axis).size == shape[i]:
                reading.unify(result[i], axis, node)
    return [resolve(axis) for axis in result]
