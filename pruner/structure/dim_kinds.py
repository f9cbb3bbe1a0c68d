"""Tells what Dims are to their network by the operators that work along them."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import fx

from ..axes import CONVOLUTIONS, Atom, Axis, AxisMap, atoms_of, resolve_axis
from ..graph import find_input_dependent, operator_arguments, operator_name
from .network import Block
from .residual_blocks import find_shared_blocks, index_blocks

HEADS, QK, V, GROUPS, STREAM, HIDDEN, CHANNELS = (
    "heads", "qk", "v", "groups", "stream", "hidden", "channels",
)  # fmt: skip
"""heads
    What the products of an attention run side by side over.
qk, v
    The width per head of queries and keys, over which the first of an attention's two products
    sums, and that of values, which the second leaves.
groups
    The groups of a grouped convolution or normalization.
stream
    What Blocks join: the embedding of a transformer, the channels of a residual stage.
hidden
    Written and read within one Block: the inner width of a bottleneck, of an MLP.
channels
    Any other width.
"""

_ATTENTION = "scaled_dot_product_attention"


@dataclass(frozen=True)
class _Contraction:
    """A product of two activations: the axes summed over, those of the batch, and the others."""

    node: fx.Node
    contracted: tuple[Axis, ...]
    batch: tuple[Axis, ...]
    outer: tuple[Axis, ...]


def classify_dims(
    axis_map: AxisMap, all_blocks: Mapping[str, Block]
) -> dict[Atom, tuple[str, str]]:
    """Return for free atoms their kind, and the module of the operator that shows it.

    An atom that is none of the narrower kinds is missing: plain channels.
    """
    found: dict[Atom, tuple[str, str]] = {}

    def add(kind: str, axes: tuple[Axis, ...], path: str) -> None:
        for axis in axes:
            for atom in atoms_of(axis):
                if atom.reason is None:
                    found.setdefault(atom, (kind, path))

    nodes = {node.name: node for node in axis_map.program.graph.nodes}
    products = _find_attention(axis_map, {nodes[block.join] for block in all_blocks.values()})
    for kind, part in ((QK, "contracted"), (HEADS, "batch"), (V, "outer")):
        for product in products:
            add(kind, getattr(product, part), product.node.meta.get("path") or "")
    for node in axis_map.program.graph.nodes:
        add(GROUPS, _find_groups(axis_map, node), node.meta.get("path") or "")
    for name, block in all_blocks.items():
        add(STREAM, tuple(axis_map.axes_of(nodes[block.join])), name)
    for atom, name in _find_hidden(axis_map, all_blocks):
        found.setdefault(atom, (HIDDEN, name))
    return found


def _find_attention(axis_map: AxisMap, joins: set[fx.Node]) -> list[_Contraction]:
    """Return products that are chained: one's result reaches another before a Block's join."""
    graph = axis_map.program.graph
    live = find_input_dependent(graph)
    products = {node: p for node in graph.nodes if (p := _read_product(axis_map, node, live))}
    nearest: dict[fx.Node, fx.Node] = {}
    """Node -> the product that its value reaches."""
    for node in reversed(graph.nodes):
        for reader in node.users:
            if reader in products:
                nearest[node] = reader
            elif reader in nearest and reader not in joins and reader.op == "call_function":
                nearest.setdefault(node, nearest[reader])
    chained = {
        node: None
        for first in products
        if first in nearest or operator_name(first) == _ATTENTION
        for node in (first, nearest.get(first))
        if node is not None
    }
    return [products[node] for node in graph.nodes if node in chained]


def _read_product(axis_map: AxisMap, node: fx.Node, live: set[fx.Node]) -> _Contraction | None:
    """Return a node's product of two activations, None where it is none."""
    name = operator_name(node)
    if name == _ATTENTION:
        query, value = (
            axis_map.axes_of(operator_arguments(node)[key]) for key in ("query", "value")
        )
        return _Contraction(node, (query[-1],), tuple(axis_map.axes_of(node)[:-2]), (value[-1],))
    if name == "einsum":
        return _read_einsum(axis_map, node) if live.issuperset(node.all_input_nodes) else None
    factors = node.args[1:3] if name == "baddbmm" else node.args[:2]  # its first is added: a bias
    if name not in ("matmul", "bmm", "baddbmm") or not live.issuperset(factors):  # type: ignore[arg-type]
        return None
    first, second = (axis_map.axes_of(factor) for factor in factors)
    if min(len(first), len(second)) < 2:
        return None
    return _Contraction(
        node, (first[-1],), tuple(axis_map.axes_of(node)[:-2]), (first[-2], second[-1])
    )


def _read_einsum(axis_map: AxisMap, node: fx.Node) -> _Contraction | None:
    """Return the product that an einsum of two operands is, None where it has an ellipsis."""
    equation = str(node.args[0]).replace(" ", "")
    operands = node.args[1]
    if "." in equation or "->" not in equation or len(operands) != 2:  # type: ignore[arg-type]
        return None
    inputs, output = equation.split("->")
    parts: dict[str, list[Axis]] = defaultdict(list)
    first, second = inputs.split(",")
    for letters, operand in zip((first, second), operands):  # type: ignore[arg-type]
        for letter, axis in zip(letters, axis_map.axes_of(operand)):
            shared = letter in first and letter in second
            part = "outer" if not shared else "batch" if letter in output else "contracted"
            parts[part].append(axis)
    return _Contraction(node, *(tuple(parts[part]) for part in ("contracted", "batch", "outer")))


def _find_groups(axis_map: AxisMap, node: fx.Node) -> tuple[Axis, ...]:
    """Return the axis of an operator's groups; none where every channel is a group of its own."""
    name, symbolic = operator_name(node), axis_map.symbolic_arguments.get(node, {})
    if not symbolic or name not in (*CONVOLUTIONS, "group_norm"):
        return ()
    (groups,) = symbolic.values()
    channels = axis_map.axes_of(node.all_input_nodes[0])
    whole = any(resolve_axis(axis).size == resolve_axis(groups).size for axis in channels[1:2])
    return () if whole else (groups,)


def _find_hidden(axis_map: AxisMap, all_blocks: Mapping[str, Block]) -> Iterator[tuple[Atom, str]]:
    """Yield the atoms whose tensors all lie in one Block, with the innermost such."""
    around = index_blocks(all_blocks)
    readers: dict[Atom, dict[str, None]] = defaultdict(dict)
    for node in axis_map.program.graph.nodes:
        if node.op == "get_attr":
            names = dict.fromkeys(user.name for user in node.users)
            for axis in axis_map.axes[node]:
                for atom in atoms_of(axis):
                    readers[atom].update(names)
    for atom, names in readers.items():
        inside = find_shared_blocks(names, around) if atom.reason is None else ()
        if inside:
            yield atom, inside[-1]
