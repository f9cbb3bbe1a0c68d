"""A removable branch of a graph, and the pass that removes it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import fx

from .ops import operator_name, remove_dead_nodes

_IDEMPOTENT = ("relu", "relu6", "hardtanh", "clamp_min")


@dataclass(frozen=True)
class Block:
    """A removable branch of ``join = skip + branch``.

    Attributes:
        name: The branch's module, or one that tells it from others.
        join: The node of the sum, which dropping the block replaces by skip.
        skip: The node that is added to the branch.
        nodes: The nodes that fall away with it (join included).
        inside: The blocks that this one lies within, outermost first.
    """

    name: str
    join: str
    skip: str
    nodes: frozenset[str] = field(repr=False)
    inside: tuple[str, ...] = ()


def drop_blocks(graph: fx.Graph, dropped: Sequence[Block]) -> None:
    """Replace the joins of blocks by their skips, in place, and remove what nothing reads then."""
    by_name = {node.name: node for node in graph.nodes}
    gone = {block.name for block in dropped}
    for block in dropped:
        if gone.intersection(block.inside):
            continue
        join = by_name[block.join]
        skips = [s for s in join.args[:2] if isinstance(s, fx.Node) and s.name not in block.nodes]
        join.replace_all_uses_with(skips[0])
    if dropped:
        remove_dead_nodes(graph)
        for node in list(graph.nodes):  # relu(relu(x)) is left where a block fell away
            source = node.args[0] if node.args else None
            if isinstance(source, fx.Node) and is_repeated(node, source):
                node.replace_all_uses_with(source)
        remove_dead_nodes(graph)


def is_repeated(node: fx.Node, source: fx.Node) -> bool:
    """Return whether a node of source would change nothing, such as a ReLU of a ReLU."""
    return (
        operator_name(node) in _IDEMPOTENT
        and operator_name(source) == operator_name(node)
        and source.args[1:] == node.args[1:]
    )
