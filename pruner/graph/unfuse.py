"""The pass by which the parts that a graph selects out of a reshape become a split.

``linear -> reshape(..., 3, heads, width) -> permute -> unbind`` computes query, key and value as
one regular tensor, which would hold their widths together. A split of the linear's output, each
part with its own reshape, computes the same numbers and lets each part have its own width. Nothing
here knows of attention: any leading factor of an axis that is selected from by index is such.
"""

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from .ops import operator_arguments, operator_name, producer_of

_RESHAPES = ("view", "reshape", "unflatten")
_MOST_PARTS = 8


@dataclass(frozen=True)
class _FusedProjection:
    """A tensor whose axis is (parts, ...) after a reshape, read by selections of single parts.

    The chain of operators leads from the reshape to the selections, each with the axis of its
    result in which the parts stand.
    """

    parts: int
    chain: tuple[tuple[fx.Node, int], ...]
    readers: tuple[tuple[fx.Node, int], ...]


def unfuse_projections(graph: fx.Graph) -> None:
    """Rewrite every fused projection of the graph, in place."""
    for node in list(graph.nodes):
        if node.op == "call_function" and operator_name(node) in _RESHAPES:
            fused = _find_fused(node)
            if fused is not None:
                _split(graph, fused)


def _find_fused(reshape: fx.Node) -> _FusedProjection | None:
    source = reshape.args[0]
    if not isinstance(source, fx.Node):
        return None
    before, after = source.meta["shape"], reshape.meta["shape"]
    axis = next((i for i, (x, y) in enumerate(zip(before, after)) if x != y), None)
    if axis is None or axis == 0:
        return None
    parts = after[axis]
    kept_after = len(before) - axis - 1  # axes of the source behind the one that is cut
    tail = after[len(after) - kept_after :] if kept_after else ()
    if not 2 <= parts <= _MOST_PARTS or before[axis] % parts or tail != before[axis + 1 :]:
        return None
    if len(after) - kept_after - axis < 2:
        return None
    chain = [(reshape, axis)]
    while True:
        node, place = chain[-1]
        readers = _find_selections(node, place, parts)
        if readers is not None:
            return _FusedProjection(parts, tuple(chain), readers)
        if len(node.users) != 1:
            return None
        node = next(iter(node.users))
        moved = _track_axis(node, place) if node.op == "call_function" else None
        if moved is None:
            return None
        chain.append((node, moved))


def _find_selections(
    node: fx.Node, place: int, parts: int
) -> tuple[tuple[fx.Node, int], ...] | None:
    """Find the nodes that take single parts, and which; None if anything else reads the tensor."""
    found: list[tuple[fx.Node, int]] = []
    rank = len(node.meta["shape"])
    for user in node.users:
        name = operator_name(user)
        if name == "unbind" and operator_arguments(user)["dim"] % rank == place:
            found.extend((item, int(item.args[1])) for item in user.users)  # type: ignore[arg-type]
        elif name == "select" and user.args[1] % rank == place:  # type: ignore[operator]
            found.append((user, int(user.args[2]) % parts))  # type: ignore[arg-type]
        else:
            return None
    return tuple(found) or None


def _track_axis(node: fx.Node, place: int) -> int | None:
    """Return where an axis stands after an operator of the chain, None where that is not plain."""
    source = node.args[0]
    if not isinstance(source, fx.Node):
        return None  # an einsum, a concatenation
    name, rank = operator_name(node), len(source.meta["shape"])
    if name in ("contiguous", "clone"):
        return place
    if name == "permute":
        return [d % rank for d in node.args[1]].index(place)  # type: ignore[union-attr, operator]
    if name == "transpose":
        first, second = (int(d) % rank for d in node.args[1:3])  # type: ignore[arg-type]
        return {first: second, second: first}.get(place, place)
    if name == "unsqueeze":
        return place + (int(node.args[1]) % (rank + 1) <= place)  # type: ignore[arg-type]
    if name == "squeeze" and len(node.args) > 1 and isinstance(node.args[1], int):
        gone = node.args[1] % rank
        return None if gone == place else place - (gone < place)
    return None


def _split(graph: fx.Graph, fused: _FusedProjection) -> None:
    """Split the tensor before the reshape, and give each part a chain of its own."""
    (reshape, axis), (_, last_axis) = fused.chain[0], fused.chain[-1]
    source = producer_of(reshape)
    shape, path = source.meta["shape"], reshape.meta["path"]
    each = shape[axis] // fused.parts
    part_shape = (*shape[:axis], each, *shape[axis + 1 :])

    def add(name: str, target: Any, args: tuple[Any, ...], kwargs: Any, shape: Any) -> fx.Node:
        node = graph.create_node("call_function", target, args, kwargs, name=name)
        node.meta.update(shape=shape, path=path, dtype=source.meta.get("dtype"))
        return node

    with graph.inserting_before(reshape):
        split = add(
            f"{reshape.name}_split",
            torch.ops.aten.split_with_sizes.default,
            (source, [each] * fused.parts, axis),
            {},
            [part_shape] * fused.parts,
        )
    for reader, index in fused.readers:
        with graph.inserting_before(reader):
            name = f"{reader.name}_part"
            node = add(name, operator.getitem, (split, index), {}, part_shape)
            for step, after in fused.chain:
                size = list(step.meta["shape"])
                size[after] = 1
                args: list[Any] = [node, *step.args[1:]]
                if step is reshape:  # one part instead of all
                    place, part = (2, 0) if operator_name(step) == "unflatten" else (1, axis)
                    args[place] = [*args[place][:part], 1, *args[place][part + 1 :]]
                full = f"{name}_{step.name}"
                node = add(full, step.target, tuple(args), step.kwargs, tuple(size))
            taken = tuple(n for d, n in enumerate(node.meta["shape"]) if d != last_axis)
            select = torch.ops.aten.select.int
            last = add(f"{name}_0", select, (node, last_axis, 0), {}, taken)
        reader.replace_all_uses_with(last)
