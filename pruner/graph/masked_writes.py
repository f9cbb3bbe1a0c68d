"""The pass by which writes to positions that a mask chooses become a selection of two tensors.

``x[mask] = value`` and ``x[torch.where(mask)] = value`` are exported as a write to as many places
as the mask has ones: a number that depends on data, and that neither a trial on shapes nor ONNX
knows. ``where(mask, value, x)`` gives the same.
"""

from typing import Any

import torch
from torch import fx

from .ops import operator_arguments, operator_name

_LISTS = ("where", "nonzero_numpy")
"""With a mask as their only argument: the indices of its ones, a tensor an axis."""


def simplify_masked_writes(graph: fx.Graph) -> None:
    """Rewrite every write to the ones of a mask, in place; nodes that fall idle stay."""
    for node in list(graph.nodes):
        if node.op == "call_function" and operator_name(node) == "index_put":
            _replace_write(graph, node)


def _replace_write(graph: fx.Graph, node: fx.Node) -> None:
    args = operator_arguments(node)
    x, value, indices = args["self"], args["values"], list(args["indices"])
    front = next((i for i, index in enumerate(indices) if index is not None), len(indices))
    mask = _find_mask(indices[front:])
    if mask is None or args["accumulate"]:
        return
    rank, covered = len(x.meta["shape"]), front + len(mask.meta["shape"])
    # The value has the axes behind the mask: one in front of it would be that of the ones.
    if len(value.meta["shape"]) > rank - covered:
        return
    with graph.inserting_before(node):
        shape = tuple(mask.meta["shape"])
        for _ in range(rank - covered):
            shape = (*shape, 1)
            unsqueezed = graph.call_function(torch.ops.aten.unsqueeze.default, (mask, -1))
            unsqueezed.meta.update(mask.meta, shape=shape, path=node.meta["path"])
            mask = unsqueezed
        made = graph.call_function(torch.ops.aten.where.self, (mask, value, x))
    made.meta.update(node.meta)
    node.replace_all_uses_with(made)


def _find_mask(indices: list[Any]) -> fx.Node | None:
    """Return the mask whose ones are indexed; None where these are other positions."""
    given = [index for index in indices if index is not None]
    if len(given) != len(indices) or not given:
        return None
    if len(given) == 1 and given[0].meta.get("dtype") == torch.bool:
        return given[0]  # type: ignore[no-any-return]
    found = [_read_axis(index) for index in given]
    mask = found[0][0] if found[0] else None
    if mask is None or mask.meta.get("dtype") != torch.bool:
        return None
    return mask if found == [(mask, axis) for axis in range(len(mask.meta["shape"]))] else None


def _read_axis(index: fx.Node) -> tuple[fx.Node, int] | None:
    """Return the mask of whose ones an index holds the positions along an axis, and the axis."""
    source, name = (index.args[0] if index.args else None), operator_name(index)
    if not isinstance(source, fx.Node):
        return None
    if name == "getitem" and operator_name(source) in _LISTS and len(source.args) == 1:
        return source.args[0], index.args[1]  # type: ignore[return-value]
    if name == "getitem" and operator_name(source) == "unbind":
        listed, dim, axis = source.args[0], operator_arguments(source)["dim"], index.args[1]
    elif name == "select":
        listed, dim, axis = source, index.args[1], index.args[2]
    else:
        return None
    if isinstance(listed, fx.Node) and operator_name(listed) == "nonzero" and dim in (1, -1):
        return listed.args[0], axis  # type: ignore[return-value]
    return None
