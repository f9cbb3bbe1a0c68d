"""Finds the Cells of a graph: anchor operators, each with the element-wise ones behind it."""

from collections.abc import Mapping
from typing import Any

from torch import fx

from latency_tables import Cell, LayerSpec

from ..axes import (
    CONVOLUTIONS,
    GATES,
    POOLINGS,
    PRODUCTS,
    REDUCTIONS,
    TRANSPOSED,
    UPSAMPLINGS,
    Atom,
    Axis,
    AxisMap,
    atoms_of,
    factors_of,
    is_free,
    is_pointwise,
    remove_atom,
    resolve_axis,
)
from ..graph import (
    BATCH_HINT,
    find_input_dependent,
    operator_arguments,
    operator_name,
    operator_schema,
)
from ..utils import choose_unused_name
from .network import Block, LocatedCell
from .residual_blocks import find_shared_blocks, index_blocks

_ANCHORS = {
    "linear", "einsum", "scaled_dot_product_attention", "softmax", "_softmax", "layer_norm",
    "group_norm", "rms_norm", "cat", "embedding", "index", "roll", "deform_conv2d", "bilinear",
    "cdist", *CONVOLUTIONS, *PRODUCTS, *GATES, *REDUCTIONS, *POOLINGS, *UPSAMPLINGS,
}  # fmt: skip
_NO_COST = {"sym_size", "getitem"}


def find_cells(
    axis_map: AxisMap, by_name: Mapping[str, Atom], all_blocks: Mapping[str, Block]
) -> tuple[LocatedCell, ...]:
    """Return anchors with the element-wise operators behind them, in the order of execution."""
    name_of = {atom: name for name, atom in by_name.items()}
    owner_of: dict[fx.Node, fx.Node] = {}
    members: dict[fx.Node, list[fx.Node]] = {}
    position = {node: i for i, node in enumerate(axis_map.program.graph.nodes)}
    live = find_input_dependent(axis_map.program.graph, sizes=True)
    for node in axis_map.program.graph.nodes:
        if node.op != "call_function" or node not in live or operator_name(node) in _NO_COST:
            if operator_name(node) == "getitem" and node.args[0] in owner_of:
                owner_of[node] = owner_of[node.args[0]]  # type: ignore[index]
            continue
        anchor = None if _is_anchor(node) else _find_anchor(node, owner_of, position)
        if anchor is None:
            members[node] = []
            anchor = node
        owner_of[node] = anchor
        members[anchor].append(node)
    around = index_blocks(all_blocks)
    names: dict[str, LocatedCell] = {}
    for anchor, nodes in members.items():
        name = choose_unused_name(_name_cell(anchor), names)
        spec, widths = _specify(axis_map, anchor, nodes)
        # Sizes are those of one image: a table is of one batch, which its device says.
        widths = tuple(remove_atom(width, axis_map.batch) for width in widths)
        used = dict.fromkeys(
            name_of[a] for width in widths for a in atoms_of(width) if a in name_of
        )
        without, stride = _read_stride(nodes, all_blocks, around)
        sizes = tuple(width.size for width in widths)
        strided = (
            spec.with_read_stride(stride) if stride > 1 and spec.operator in CONVOLUTIONS else None
        )
        cell = Cell(name, spec, tuple(used), sizes, without, strided)
        blocks = find_shared_blocks((anchor.name,), around)
        names[name] = LocatedCell(cell, widths, frozenset(node.name for node in nodes), blocks)
    return tuple(names.values())


_MAX_DROPPED = 2  # more blocks are rarely dropped together, and tables grow by powers of 2


def _read_stride(
    nodes: list[fx.Node], all_blocks: Mapping[str, Block], around: Mapping[str, tuple[str, ...]]
) -> tuple[tuple[str, ...], int]:
    """Find the blocks without which strided 1 x 1 convolutions alone read what nodes write.

    Returns:
        Their names and the stride; (), 1 where there are no such blocks.
    """
    end, never = nodes[-1], ((), 1)
    if any(user not in nodes for node in nodes[:-1] for user in node.users):
        return never
    gone: dict[str, None] = {}
    strides = set()
    reads = list(end.users)
    while reads:
        user = reads.pop()
        if (stride := _get_pointwise_stride(user)) > 1:
            strides.add(stride)
        elif _is_fused(user) and user.meta["shape"] == end.meta["shape"]:
            reads += user.users  # a block's sum too: without the block, its readers read this
        else:
            outer = [b for b in around.get(user.name, ()) if end.name not in all_blocks[b].nodes]
            if not outer:
                return never
            gone[outer[0]] = None
    if len(strides) != 1 or not 0 < len(gone) <= _MAX_DROPPED:
        return never
    return tuple(sorted(gone)), strides.pop()


def _get_pointwise_stride(node: fx.Node) -> int:
    """Return the stride of a convolution that reads single positions; 1 for other operators."""
    if operator_name(node) not in CONVOLUTIONS:
        return 1
    given = operator_arguments(node)
    weight = given["weight"].meta["shape"]
    strides, paddings = (
        set(value) if isinstance(value, list | tuple) else {value}  # one for all axes of the map
        for value in (given["stride"], given["padding"])
    )
    single = all(k == 1 for k in weight[2:]) and paddings == {0}
    return int(strides.pop()) if single and len(strides) == 1 else 1


def _is_anchor(node: fx.Node) -> bool:
    """Return whether an operator begins a Cell of its own."""
    return operator_name(node) in _ANCHORS


def _find_anchor(
    node: fx.Node, owner_of: Mapping[fx.Node, fx.Node], position: Mapping[fx.Node, int]
) -> fx.Node | None:
    """Return the anchor that an element-wise operator or a view is timed with, None if itself."""
    sources = [source for source in node.all_input_nodes if source in owner_of]
    name = operator_name(node)
    if not sources:
        return None
    if name == "batch_norm":
        anchor = owner_of[sources[0]]
        weighted = operator_name(anchor) in (*CONVOLUTIONS, "linear")
        return anchor if weighted and len(sources[0].users) == 1 else None
    if is_pointwise(node):
        sources = [s for s in sources if s.meta.get("shape") == node.meta["shape"]]
    return max((owner_of[s] for s in sources), key=position.__getitem__, default=None)


def _name_cell(anchor: fx.Node) -> str:
    """Return the module of an anchor's weight, or its own with the operator's name."""
    for source in anchor.all_input_nodes:
        if source.op == "get_attr":
            return str(source.target).rpartition(".")[0] or str(source.target)
    path = anchor.meta.get("path")
    return f"{path}.{operator_name(anchor)}" if path else anchor.name


def _specify(
    axis_map: AxisMap, anchor: fx.Node, nodes: list[fx.Node]
) -> tuple[LayerSpec, tuple[Axis, ...]]:
    """Return an anchor's specification and the axes of its sizes."""
    name = operator_name(anchor)
    fused = tuple(operator_name(n) for n in nodes[1:] if _is_fused(n))
    if name == "linear" or (name in CONVOLUTIONS and _has_plain_sizes(axis_map, anchor)):
        return _specify_weighted(axis_map, anchor, name, fused)
    widths: dict[int, Axis] = {}
    shapes = []
    # a copy costs what it writes, however many parts it reads
    sources = [] if name == "cat" else anchor.all_input_nodes
    for node in [*sources, anchor]:
        known = axis_map.axes.get(node)
        if node.op == "get_attr" or not known or isinstance(known[0], list):
            continue
        row: list[Any] = []
        for axis in map(resolve_axis, known):
            free = is_free(axis)
            row.append("free" if free else _encode_size(axis_map, axis))
            if free:
                widths.setdefault(_find_equal(axis, widths), axis)
        shapes.append(tuple(row))
    settings = _list_settings(anchor, axis_map)
    if not widths:
        axis = _get_channels(axis_map, anchor)
        widths[id(axis)] = axis
    sizes = ("channels",) if len(widths) == 1 else tuple(f"width{i}" for i in range(len(widths)))
    attributes = (*settings, ("shapes", tuple(shapes)))
    return LayerSpec(name, sizes, tuple(sorted(attributes)), fused), tuple(widths.values())


def _has_plain_sizes(axis_map: AxisMap, node: fx.Node) -> bool:
    """Return whether channels alone make up a convolution's sizes: its map stays.

    Its groups are a number, whose axis is known where it matters.
    """
    args = operator_arguments(node)
    weight = axis_map.shape_of(args["weight"])
    channel = len(axis_map.shape_of(args["input"])) - len(weight) + 1
    if any(map(is_free, axis_map.axes_of(node)[channel + 1 :])):
        return False
    alone = (1, axis_map.shape_of(args["input"])[channel])
    return isinstance(args["groups"], int) and (
        args["groups"] in alone or node in axis_map.symbolic_arguments
    )


def _find_equal(axis: Axis, known: Mapping[int, Axis]) -> int:
    """Return the key of a known axis of the same size and atoms, else a new one."""
    mine = [id(a) for a in atoms_of(axis)]
    for key, other in known.items():
        if other.size == axis.size and [id(a) for a in atoms_of(other)] == mine:
            return key
    return id(axis)


def _get_channels(axis_map: AxisMap, anchor: fx.Node) -> Axis:
    """Return the channel axis of an operator's (first) result."""
    known = axis_map.axes[anchor]
    row = known[0] if known and isinstance(known[0], list) else known
    return resolve_axis(row[1 if len(row) >= 4 else -1]) if row else Atom(1)


def _is_fused(node: fx.Node) -> bool:
    """Return whether a node is element-wise or a batch normalization."""
    return is_pointwise(node) or operator_name(node) == "batch_norm"


def _encode_size(axis_map: AxisMap, axis: Axis) -> int | str:
    """Return a size for a specification, where the example's batch would say nothing."""
    times, rest = divmod(axis.size, axis_map.program.batch)
    multiple = axis_map.program.batch == BATCH_HINT and not rest
    if axis is axis_map.batch or (multiple and times == 1):
        return "batch"
    return f"{times} * batch" if multiple and times else axis.size  # windows of every image


def _list_settings(anchor: fx.Node, axis_map: AxisMap) -> list[tuple[str, Any]]:
    """Return the arguments that are plain values, but for numbers that follow a Dim."""
    symbolic = {path[0] for path in axis_map.symbolic_arguments.get(anchor, {})}
    if operator_schema(anchor.target) is None:
        return []
    return [
        (key, value)
        for place, (key, given) in enumerate(operator_arguments(anchor).items())
        if place not in symbolic and key not in symbolic
        if (value := _encode_value(given)) is not ...
    ]


def _encode_value(value: Any) -> Any:
    """Return a plain value, with tuples for lists; ``...`` for any other."""
    if isinstance(value, int | float | str | bool) or value is None:
        return value
    if isinstance(value, list | tuple):
        items = tuple(_encode_value(item) for item in value)
        return ... if ... in items else items
    return ...


def _specify_weighted(
    axis_map: AxisMap, anchor: fx.Node, name: str, fused: tuple[str, ...]
) -> tuple[LayerSpec, tuple[Axis, ...]]:
    """Return the specification and the axes of a convolution or a linear layer."""
    args = operator_arguments(anchor)
    x, weight, out = args["input"], args["weight"], axis_map.axes_of(anchor)
    x_axes, shape = axis_map.axes_of(x), axis_map.shape_of(x)
    if name == "linear":
        rows = tuple(_encode_size(axis_map, resolve_axis(axis)) for axis in x_axes[:-1])
        attributes: list[tuple[str, Any]] = [("bias", args["bias"] is not None), ("rows", rows)]
        return (
            LayerSpec(name, ("in_features", "out_features"), tuple(attributes), fused),
            (resolve_axis(x_axes[-1]), resolve_axis(out[-1])),
        )
    groups = args["groups"]
    kernel = tuple(axis_map.shape_of(weight)[2:])
    channel = len(shape) - len(kernel) - 1
    attributes = [
        ("bias", args["bias"] is not None),
        ("dilation", _encode_value(args["dilation"])),
        ("kernel", kernel),
        ("map", shape[channel + 1 :]),
        ("padding", _encode_value(args["padding"])),
        ("stride", _encode_value(args["stride"])),
    ]
    c_in, c_out = resolve_axis(x_axes[channel]), resolve_axis(out[channel])
    sizes: tuple[str, ...] = ("in_channels", "out_channels")
    if isinstance(groups, fx.Node):  # a group an image, or a channel: what is left of one image
        c_in, c_out = (_take_one_image(axis) for axis in (c_in, c_out))
        depthwise = axis_map.shape_of(weight)[1] == 1 and name not in TRANSPOSED
        groups = c_in.size if depthwise else 1
    widths: tuple[Axis, ...] = (c_in, c_out)
    if groups == 1:
        kind = "dense"
    elif groups == c_in.size:
        kind, sizes, widths = "depthwise", ("channels",), (c_in,)
        attributes.append(("multiplier", c_out.size // groups))
    else:
        kind, sizes = "grouped", ("groups", "in_channels", "out_channels")
        symbolic = axis_map.symbolic_arguments[anchor]
        widths = (resolve_axis(next(iter(symbolic.values()))), c_in, c_out)
    attributes.append(("grouping", kind))
    return LayerSpec(name, sizes, tuple(sorted(attributes)), fused), widths


def _take_one_image(axis: Axis) -> Axis:
    """Return an axis without the batch, where that and one other factor make it up."""
    others = [factor for factor in factors_of(axis) if factor.size != BATCH_HINT]
    return others[0] if len(others) == 1 else axis
