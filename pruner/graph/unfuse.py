"""The pass by which the parts that a graph selects out of a reshape become a split.

``linear -> reshape(..., 3, heads, width) -> permute -> unbind`` computes query, key and value as
one regular tensor, which would hold their widths together. A split of the linear's output, each
part with its own reshape, computes the same numbers and lets each part have its own width. Nothing
here knows of attention: any leading factor of an axis that is selected from by index is such.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
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
    axis = _find_parts(reshape)
    if axis is None:
        return None
    parts = reshape.meta["shape"][axis]
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


def _find_parts(reshape: fx.Node) -> int | None:
    """Return the leading factor that a reshape makes of an axis; None where it makes none."""
    source = reshape.args[0]
    place = _find_split_axis(reshape)
    if place is None or not isinstance(source, fx.Node):
        return None
    before, after = source.meta["shape"], reshape.meta["shape"]
    size, end = 1, len(after) - (len(before) - place - 1)
    begin = end
    while begin > 0 and size < before[place]:
        begin -= 1
        size *= after[begin]
    fits = size == before[place] and prod(after[:begin]) == prod(before[:place])
    return begin if fits and end - begin >= 2 and 2 <= after[begin] <= _MOST_PARTS else None


def _find_split_axis(reshape: fx.Node) -> int | None:
    """Return the axis of a reshape's source that is taken apart: the last that it changes.

    What lies in front of it may be arranged anew.
    """
    source = reshape.args[0]
    if not isinstance(source, fx.Node):
        return None
    before, after = source.meta["shape"], reshape.meta["shape"]
    same = 0
    while same < min(len(before), len(after)) and before[-1 - same] == after[-1 - same]:
        same += 1
    place = len(before) - 1 - same
    return place if place > 0 else None


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
    if name in (*_RESHAPES, "flatten"):
        return _track_reshaped(source.meta["shape"], node.meta["shape"], place)
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


def _track_reshaped(before: Sequence[int], after: Sequence[int], place: int) -> int | None:
    """Return where an axis stands after a reshape that leaves it as it is, else None."""
    front = prod(before[:place])
    return next(
        (i for i, n in enumerate(after) if n == before[place] and prod(after[:i]) == front), None
    )


def _take_one_part(step: fx.Node, place: int) -> tuple[Any, ...]:
    """Return the further arguments of an operator of the chain where the parts are one."""
    name, args = operator_name(step), list(step.args[1:])
    if name not in _RESHAPES:
        return tuple(args)
    if name == "unflatten":
        place -= int(args[0]) % len(producer_of(step).meta["shape"])  # type: ignore[arg-type]
    given = list(args[-1])  # type: ignore[arg-type]
    if 0 <= place < len(given):
        given[place] = 1
    return (*args[:-1], given)


def _split(graph: fx.Graph, fused: _FusedProjection) -> None:
    """Split the tensor before the reshape, and give each part a chain of its own."""
    reshape, last_axis = fused.chain[0][0], fused.chain[-1][1]
    source, axis = producer_of(reshape), _find_split_axis(reshape)
    assert axis is not None
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
                args = (node, *_take_one_part(step, after))
                full = f"{name}_{step.name}"
                node = add(full, step.target, args, step.kwargs, tuple(size))
            taken = tuple(n for d, n in enumerate(node.meta["shape"]) if d != last_axis)
            select = torch.ops.aten.select.int
            last = add(f"{name}_0", select, (node, last_axis, 0), {}, taken)
        reader.replace_all_uses_with(last)
