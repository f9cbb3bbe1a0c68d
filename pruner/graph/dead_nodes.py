"""The pass that removes nodes whose results nothing reads."""

from collections.abc import Callable

from torch import fx

from .ops import is_mutable


def remove_dead_nodes(graph: fx.Graph, keep: Callable[[fx.Node], bool] = is_mutable) -> None:
    """Remove nodes that nothing reads, in place; arguments, results and writes in place stay.

    Args:
        graph: Any graph.
        keep: Which other nodes stay though nothing reads them.
    """
    graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output") or keep(node))
