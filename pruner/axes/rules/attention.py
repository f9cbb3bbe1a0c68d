"""Scaled dot-product attention."""

from torch import fx

from ...graph import operator_arguments
from ..algebra import freeze_axes, resolve_axis, split_product
from ..axis_map import AxisMap, Result
from .base import rule
from .contraction import broadcast


@rule("scaled_dot_product_attention")
def attention(axis_map: AxisMap, node: fx.Node) -> Result:
    """Relate query [..., L, E], key [..., S, E], value [..., S, V] -> [..., L, V]."""
    args = operator_arguments(node)
    query, key, value = (axis_map.axes_of(args[name]) for name in ("query", "key", "value"))
    axis_map.unify(query[-1], key[-1], node)
    axis_map.unify(key[-2], value[-2], node)
    freeze_axes((query[-2], key[-2]), "attended over")
    if args["scale"] is None:  # its default follows the width: hold it where it was trained
        node.kwargs = {**node.kwargs, "scale": resolve_axis(query[-1]).size ** -0.5}
    axis_map.reduction_axes[node] = (len(query) - 1,)
    if args.get("enable_gqa"):  # each key head serves a run of query heads
        shared = split_product(query[-3], resolve_axis(key[-3]).size)
        if shared is None:
            return axis_map.freeze_node(node, "key heads that cut across the query heads")
        axis_map.unify(shared[0], key[-3], node)
        axis_map.unify(key[-3], value[-3], node)
        heads = [*broadcast(axis_map, node, query[:-3], key[:-3]), query[-3]]
    else:
        heads = broadcast(
            axis_map, node, broadcast(axis_map, node, query[:-2], key[:-2]), value[:-2]
        )
    if isinstance(args["attn_mask"], fx.Node):
        bias = axis_map.axes_of(args["attn_mask"])
        freeze_axes(bias[-2:], "attended over")
        broadcast(axis_map, node, heads, bias[:-2])
    return [*heads, query[-2], value[-1]]
