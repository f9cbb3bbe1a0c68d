"""Means, sums and softmax: the axis that they run over cannot be cut without changing the rest."""

from __future__ import annotations

from torch import fx

from ..axes import UNIT
from ..nodes import arguments, operator_name
from .base import Axes, Reading, Result, rule

REDUCTIONS = (
    "mean", "sum", "amax", "amin", "max", "min", "var", "std", "var_mean", "std_mean", "logsumexp",
    "linalg_vector_norm", "norm", "argmax", "argmin", "any", "all", "prod",
)  # fmt: skip


@rule(*REDUCTIONS)
def reduction(reading: Reading, node: fx.Node) -> Result:
    """The reduced axes are frozen; the others pass."""
    args = arguments(node)
    source = node.args[0]
    assert isinstance(source, fx.Node)
    x = reading.of(source)
    dims = args.get("dim")
    if "other" in args:  # max and min of two tensors: element-wise
        return reading.give_up(node, f"{operator_name(node)} of two tensors")
    chosen = range(len(x)) if dims is None or dims == [] else dims
    chosen = [chosen] if isinstance(chosen, int) else chosen
    reduced = {d % len(x) for d in chosen} if x else set()
    for d in reduced:
        reading.freeze(x[d], f"reduced by {operator_name(node)}")
    kept: Axes = [
        UNIT if d in reduced else axis
        for d, axis in enumerate(x)
        if d not in reduced or args.get("keepdim")
    ]
    shape = node.meta["shape"]
    return [list(kept) for _ in shape] if isinstance(shape, list) else kept


@rule("softmax", "log_softmax", "_softmax", "cumsum", "flip", "roll", "sort", "topk")
def along_an_axis(reading: Reading, node: fx.Node) -> Result:
    """Shape and order of the other axes stay; the axis worked along is frozen."""
    args = arguments(node)
    source = node.args[0]
    assert isinstance(source, fx.Node)
    x = reading.of(source)
    dims = args.get("dim", args.get("dims"))
    for d in range(len(x)) if dims in (None, []) else [dims] if isinstance(dims, int) else dims:
        reading.freeze(x[d], f"worked along by {operator_name(node)}")
    shape = node.meta["shape"]
    if isinstance(shape, list):
        return [list(x) for _ in shape]
    return list(x) if len(shape) == len(x) else reading.give_up(node, "a changed shape")
