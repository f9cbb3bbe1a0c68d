"""Scaled dot-product attention."""

from __future__ import annotations

from torch import fx

from ..axes import resolve
from ..nodes import arguments
from .base import Reading, Result, rule
from .contraction import broadcast


@rule("scaled_dot_product_attention")
def attention(reading: Reading, node: fx.Node) -> Result:
    """query [..., L, E], key [..., S, E], value [..., S, V] -> [..., L, V]."""
    args = arguments(node)
    query, key, value = (reading.of(args[name]) for name in ("query", "key", "value"))
    if args.get("enable_gqa"):
        return reading.give_up(node, "attention that repeats its keys itself")
    reading.unify(query[-1], key[-1], node)
    reading.unify(key[-2], value[-2], node)
    for axis in (query[-2], key[-2]):
        reading.freeze(axis, "attended over")
    if args["scale"] is None:  # its default follows the width: hold it where it was trained
        node.kwargs = {**node.kwargs, "scale": resolve(query[-1]).size ** -0.5}
    heads = broadcast(reading, node, broadcast(reading, node, query[:-2], key[:-2]), value[:-2])
    if isinstance(args["attn_mask"], fx.Node):
        bias = reading.of(args["attn_mask"])
        broadcast(reading, node, heads, bias[:-2])
    return [*heads, query[-2], value[-1]]
