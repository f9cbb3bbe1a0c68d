"""From the axes of a graph to its Dims, removable Blocks and Cells."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from torch import fx

from latency_tables.spec import Cell, LayerSpec

from .axes import Atom, Axis, atoms, freeze, owner, resolve
from .network import Block, Dim, Frozen, Placed, Slot
from .nodes import arguments, operator_name
from .rules import Reading
from .rules.base import is_free, is_pointwise
from .rules.reduction import REDUCTIONS

# Reasons that say nothing about the network's structure: not worth a line in the report.
_PLAIN = ("a kernel's extent", "a feature map's extent", "the batch", "an input of the network")


def tensor_nodes(reading: Reading) -> Iterator[fx.Node]:
    return (node for node in reading.program.graph.nodes if node.op == "get_attr")


def dims_and_atoms(reading: Reading, step: int | None) -> tuple[dict[str, Dim], dict[str, Atom]]:
    """Every free atom that some weight writes is a Dim; any other free atom is frozen."""
    writers: dict[Atom, list[tuple[str, int]]] = defaultdict(list)
    others: dict[Atom, str] = {}
    for node in tensor_nodes(reading):
        for i, axis in enumerate(reading.axes[node]):
            found = list(atoms(axis))
            for atom in found:
                if found.count(atom) > 1 and not _once(axis, atom):
                    freeze(atom, "it occurs twice in one axis")
                others.setdefault(atom, str(node.target))
                if reading.roles.get((str(node.target), i)) == "out":
                    writers[atom].append((str(node.target), i))
    for atom in others:
        if atom not in writers:
            freeze(atom, "no weight writes it")
    dims: dict[str, Dim] = {}
    by_name: dict[str, Atom] = {}
    for atom, places in writers.items():
        if atom.reason is not None:
            continue
        name = _free(places[0][0].rpartition(".")[0] or places[0][0], dims)
        dims[name] = Dim(name, atom.size, _step(atom.size, step), ())
        by_name[name] = atom
    return dims, by_name


def _once(axis: Axis, atom: Atom) -> bool:
    try:
        owner(axis, atom)
    except ValueError:
        return False
    return True


def _free(name: str, taken: Mapping[str, Any]) -> str:
    if name not in taken:
        return name
    number = 2
    while f"{name}#{number}" in taken:
        number += 1
    return f"{name}#{number}"


def _step(size: int, step: int | None) -> int:
    if step is not None:
        return min(step, size)
    power = 1
    while power < 8 and power * 16 <= size:
        power *= 2
    return power


def frozen(reading: Reading) -> tuple[Frozen, ...]:
    """Why axes cannot be cut, with the tensors that each reason locks."""
    locked: dict[str, dict[str, None]] = defaultdict(dict)
    for node in tensor_nodes(reading):
        for axis in reading.axes[node]:
            for atom in atoms(axis):
                if atom.reason is not None and atom.reason not in _PLAIN:
                    locked[atom.reason][str(node.target)] = None
    return tuple(Frozen(reason, tuple(tensors)) for reason, tensors in locked.items())


# ---------------------------------------------------------------------------------------- blocks


def blocks(reading: Reading) -> dict[str, Block]:
    """Every branch that joins its skip connection in an addition and is read nowhere else.

    Of the two operands, the one that more weighted operators lie on the way to is the branch (an
    identity has none, a projection one); the other is what stays.
    """
    order = {node: i for i, node in enumerate(reading.program.graph.nodes)}
    live = _depends_on_input(reading)
    found: list[tuple[fx.Node, fx.Node, set[fx.Node]]] = []
    for join in reading.program.graph.nodes:
        if operator_name(join) != "add" or len(join.args) < 2 or join.kwargs.get("alpha", 1) != 1:
            continue
        left, right = join.args[0], join.args[1]
        if left is right or not {left, right} <= live:
            continue
        candidates = []
        for branch, skip in ((left, right), (right, left)):
            if skip.meta.get("shape") != join.meta["shape"]:
                continue
            nodes = _exclusive(join, branch, order)
            depth = _depth(branch, nodes)
            if depth:
                candidates.append((depth, order[branch], branch, skip, nodes))
        if candidates:
            _, _, branch, skip, nodes = max(candidates, key=lambda c: c[:2])
            found.append((join, skip, nodes | {join}))
    return _named(found, order)


def _exclusive(join: fx.Node, branch: fx.Node, order: Mapping[fx.Node, int]) -> set[fx.Node]:
    """The nodes that are read only on the way to this operand of the join."""
    inside: set[fx.Node] = set()
    # latest first: all readers of a node are settled before the node itself
    pending = [(-order[branch], branch)]
    while pending:
        _, node = heapq.heappop(pending)
        readers = set(node.users)
        if node.op == "placeholder" or node in inside or not readers <= inside | {join}:
            continue
        if join in readers and node is not branch:
            continue
        inside.add(node)
        for source in node.all_input_nodes:
            if source not in inside:
                heapq.heappush(pending, (-order[source], source))
    return inside


_WEIGHTED = ("conv1d", "conv2d", "conv3d", "linear", "conv_transpose2d", "lstm", "gru")


def _depth(branch: fx.Node, nodes: set[fx.Node]) -> int:
    """The fewest weighted operators on a way through the branch to its end; 0 for no branch."""
    memo: dict[fx.Node, int | None] = {}
    stack = [branch]
    while stack:
        node = stack[-1]
        if node in memo:
            stack.pop()
            continue
        if node not in nodes:
            memo[node] = None if node.op == "get_attr" else 0
            continue
        open_sources = [s for s in node.all_input_nodes if s not in memo]
        if open_sources:
            stack.extend(open_sources)
            continue
        depths = [d for s in node.all_input_nodes if (d := memo[s]) is not None]
        weighted = operator_name(node) in _WEIGHTED
        memo[node] = (min(depths) + weighted) if depths else None
        stack.pop()
    return memo[branch] or 0


def _named(
    found: list[tuple[fx.Node, fx.Node, set[fx.Node]]], order: Mapping[fx.Node, int]
) -> dict[str, Block]:
    result: dict[str, Block] = {}
    names: list[tuple[str, set[fx.Node]]] = []
    for join, skip, nodes in found:
        path = join.meta.get("path") or join.name
        name = _free(path, result)
        result[name] = Block(name, join.name, skip.name, frozenset(n.name for n in nodes))
        names.append((name, nodes))
    for name, nodes in names:
        around = [other for other, theirs in names if other != name and nodes < theirs]
        around.sort(key=lambda other: -len(result[other].nodes))
        block = result[name]
        result[name] = Block(name, block.join, block.skip, block.nodes, tuple(around))
    return result


def blocks_of(nodes: set[str], all_blocks: Mapping[str, Block]) -> tuple[str, ...]:
    """The blocks that all of these nodes lie in, outermost first."""
    around = [name for name, block in all_blocks.items() if nodes and nodes <= block.nodes]
    return tuple(sorted(around, key=lambda name: len(all_blocks[name].inside)))


# ----------------------------------------------------------------------------------------- cells

_ANCHORS = {
    "matmul", "bmm", "mm", "einsum", "scaled_dot_product_attention", "softmax", "_softmax",
    "layer_norm", "group_norm", "rms_norm", "cat", "embedding", "lstm", "gru", "index", "roll",
    *REDUCTIONS,
}  # fmt: skip
_NO_COST = {"sym_size", "getitem"}


def cells(
    reading: Reading, by_name: Mapping[str, Atom], all_blocks: Mapping[str, Block]
) -> tuple[Placed, ...]:
    """Anchors with the element-wise operators that follow them, in the order of execution."""
    name_of = {atom: name for name, atom in by_name.items()}
    owner_of: dict[fx.Node, fx.Node] = {}
    members: dict[fx.Node, list[fx.Node]] = {}
    position = {node: i for i, node in enumerate(reading.program.graph.nodes)}
    live = _depends_on_input(reading)
    for node in reading.program.graph.nodes:
        if node.op != "call_function" or node not in live or operator_name(node) in _NO_COST:
            if operator_name(node) == "getitem" and node.args[0] in owner_of:
                owner_of[node] = owner_of[node.args[0]]  # type: ignore[index]
            continue
        anchor = None if _is_anchor(node) else _host(node, owner_of, position)
        if anchor is None:
            members[node] = []
            anchor = node
        owner_of[node] = anchor
        members[anchor].append(node)
    names: dict[str, Placed] = {}
    for anchor, nodes in members.items():
        around = blocks_of({anchor.name}, all_blocks)
        name = _free(_cell_name(anchor), names)
        spec, widths = _specify(reading, anchor, nodes)
        used = dict.fromkeys(name_of[a] for width in widths for a in atoms(width) if a in name_of)
        cell = Cell(name, spec, tuple(used), tuple(width.size for width in widths))
        names[name] = Placed(cell, widths, frozenset(node.name for node in nodes), around)
    return tuple(names.values())


def _depends_on_input(reading: Reading) -> set[fx.Node]:
    live: set[fx.Node] = set()
    for node in reading.program.graph.nodes:
        if node.op == "placeholder" or any(source in live for source in node.all_input_nodes):
            live.add(node)
    return live


def _is_anchor(node: fx.Node) -> bool:
    name = operator_name(node)
    return name in _ANCHORS or "conv" in name or name == "linear" or "pool" in name or (
        name.startswith("upsample")
    )  # fmt: skip


def _host(
    node: fx.Node, owner_of: Mapping[fx.Node, fx.Node], position: Mapping[fx.Node, int]
) -> fx.Node | None:
    """The anchor that an element-wise operator or a view is timed with, None if it is its own."""
    sources = [source for source in node.all_input_nodes if source in owner_of]
    name = operator_name(node)
    if not sources:
        return None
    if name == "batch_norm":
        anchor = owner_of[sources[0]]
        weighted = "conv" in operator_name(anchor) or operator_name(anchor) == "linear"
        return anchor if weighted and len(sources[0].users) == 1 else None
    if is_pointwise(node):
        sources = [s for s in sources if s.meta.get("shape") == node.meta["shape"]]
    return max((owner_of[s] for s in sources), key=position.__getitem__, default=None)


def _cell_name(anchor: fx.Node) -> str:
    for source in anchor.all_input_nodes:
        if source.op == "get_attr":
            return str(source.target).rpartition(".")[0] or str(source.target)
    path = anchor.meta.get("path")
    return f"{path}.{operator_name(anchor)}" if path else anchor.name


def _specify(
    reading: Reading, anchor: fx.Node, nodes: list[fx.Node]
) -> tuple[LayerSpec, tuple[Axis, ...]]:
    name = operator_name(anchor)
    fused = tuple(operator_name(n) for n in nodes[1:] if is_pointwise(n) or _is_norm(n))
    if "conv" in name or name == "linear":
        return _specify_weighted(reading, anchor, name, fused)
    widths: dict[int, Axis] = {}
    shapes = []
    # a copy costs what it writes, however many parts it reads
    sources = [] if name == "cat" else anchor.all_input_nodes
    for node in [*sources, anchor]:
        known = reading.axes.get(node)
        if node.op == "get_attr" or not known or isinstance(known[0], list):
            continue
        row: list[Any] = []
        for axis in map(resolve, known):
            free = is_free(axis)
            row.append("free" if free else _plain_size(reading, axis))
            if free:
                widths.setdefault(_key(axis, widths), axis)
        shapes.append(tuple(row))
    settings = _plain_settings(anchor, reading)
    if not widths:
        axis = _channel(reading, anchor)
        widths[id(axis)] = axis
    sizes = ("channels",) if len(widths) == 1 else tuple(f"width{i}" for i in range(len(widths)))
    attributes = (*settings, ("shapes", tuple(shapes)))
    return LayerSpec(name, sizes, tuple(sorted(attributes)), fused), tuple(widths.values())


def _key(axis: Axis, known: Mapping[int, Axis]) -> int:
    """Equal expressions count once: an axis is told by its atoms."""
    mine = [id(a) for a in atoms(axis)]
    for key, other in known.items():
        if other.size == axis.size and [id(a) for a in atoms(other)] == mine:
            return key
    return id(axis)


def _channel(reading: Reading, anchor: fx.Node) -> Axis:
    known = reading.axes[anchor]
    row = known[0] if known and isinstance(known[0], list) else known
    return resolve(row[1 if len(row) >= 4 else -1]) if row else Atom(1)


def _is_norm(node: fx.Node) -> bool:
    return operator_name(node) == "batch_norm"


def _plain_size(reading: Reading, axis: Axis) -> int | str:
    return "batch" if axis is reading.batch else axis.size


def _plain_settings(anchor: fx.Node, reading: Reading) -> list[tuple[str, Any]]:
    """The arguments that are plain values; numbers that follow a Dim are left out."""
    followed = {path[0] for path in reading.literals.get(anchor, {})}
    schema = getattr(anchor.target, "_schema", None)
    if schema is None:
        return []
    position = {argument.name: i for i, argument in enumerate(schema.arguments)}
    return [
        (key, value)
        for key, given in arguments(anchor).items()
        if position[key] not in followed and key not in followed
        if (value := _plain(given)) is not ...
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, int | float | str | bool) or value is None:
        return value
    if isinstance(value, list | tuple):
        items = tuple(_plain(item) for item in value)
        return ... if ... in items else items
    return ...


def _specify_weighted(
    reading: Reading, anchor: fx.Node, name: str, fused: tuple[str, ...]
) -> tuple[LayerSpec, tuple[Axis, ...]]:
    args = arguments(anchor)
    x, weight, out = args["input"], args["weight"], reading.of(anchor)
    x_axes, shape = reading.of(x), reading.shape(x)
    if name == "linear":
        rows = tuple(_plain_size(reading, resolve(axis)) for axis in x_axes[:-1])
        attributes: list[tuple[str, Any]] = [("bias", args["bias"] is not None), ("rows", rows)]
        return (
            LayerSpec(name, ("in_features", "out_features"), tuple(attributes), fused),
            (resolve(x_axes[-1]), resolve(out[-1])),
        )
    groups = args["groups"]
    kernel = tuple(reading.shape(weight)[2:])
    channel = len(shape) - len(kernel) - 1
    attributes = [
        ("bias", args["bias"] is not None),
        ("dilation", _plain(args["dilation"])),
        ("kernel", kernel),
        ("map", shape[channel + 1 :]),
        ("padding", _plain(args["padding"])),
        ("stride", _plain(args["stride"])),
    ]
    c_in, c_out = resolve(x_axes[channel]), resolve(out[channel])
    sizes: tuple[str, ...] = ("in_channels", "out_channels")
    widths: tuple[Axis, ...] = (c_in, c_out)
    if groups == 1:
        kind = "dense"
    elif groups == shape[channel]:
        kind, sizes, widths = "depthwise", ("channels",), (c_in,)
        attributes.append(("multiplier", c_out.size // groups))
    else:
        kind, sizes = "grouped", ("groups", "in_channels", "out_channels")
        widths = (resolve(next(iter(reading.literals[anchor].values()))), c_in, c_out)
    attributes.append(("grouping", kind))
    return LayerSpec(name, sizes, tuple(sorted(attributes)), fused), widths


# ----------------------------------------------------------------------------------------- slots


def with_slots(
    reading: Reading,
    dims: Mapping[str, Dim],
    by_name: Mapping[str, Atom],
    all_blocks: Mapping[str, Block],
    placed: tuple[Placed, ...],
) -> dict[str, Dim]:
    """The Dims with every tensor axis that they cut."""
    name_of = {atom: name for name, atom in by_name.items()}
    cell_of = {node: p.cell.name for p in placed for node in p.nodes}
    slots: dict[str, list[Slot]] = defaultdict(list)
    for node in tensor_nodes(reading):
        readers = {user.name for user in node.users}
        around = blocks_of(readers, all_blocks)
        cell = next((cell_of[user.name] for user in node.users if user.name in cell_of), None)
        for i, axis in enumerate(reading.axes[node]):
            for atom in dict.fromkeys(atoms(axis)):
                if atom in name_of:
                    role = reading.roles.get((str(node.target), i), "other")
                    slot = Slot(str(node.target), i, owner(axis, atom), role, cell, around)
                    slots[name_of[atom]].append(slot)
    return {name: Dim(name, dim.size, dim.step, tuple(slots[name])) for name, dim in dims.items()}
