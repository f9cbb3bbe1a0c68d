"""Roles of parameters that operators change before a layer reads them.

A weight may be computed: masked, scaled, standardized, split off a larger one, transposed. What a
layer does with an axis of the result, it does with the axes of the parameters that this axis comes
from. Which these are, the same rules say that propagate axes through the network, applied to the
computation of the weight alone: there, the axes of different parameters, and the two axes of a
weight that reads and writes the same stream, are apart but for what the computation itself joins.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import fx

from .algebra import atoms_of
from .axis_map import AxisMap

ReadAxes = Callable[[AxisMap, fx.Node], Any]
"""Returns the axes of a tensor or of an operator's results in an AxisMap."""


def pass_roles_on(axis_map: AxisMap, live: set[fx.Node], read_axes: ReadAxes) -> None:
    """Give parameters the roles of what is computed from them, and note who reads that.

    A role that a layer's own weight has stays; one that an operator of the computation gave goes.

    Args:
        axis_map: The axes and roles of a whole graph.
        live: The nodes that depend on the network's inputs.
        read_axes: Applies the rules to one node.
    """
    uses = {key: role for key, role in axis_map.computed_roles.items() if key[0] not in live}
    if not uses:
        axis_map.roles = {**axis_map.early_roles, **axis_map.roles}
        return
    needed: dict[fx.Node, set[fx.Node]] = {node: _find_sources(node) for node, _ in uses}
    everything = {source for sources in needed.values() for source in sources}
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    alone = AxisMap(replace(axis_map.program, graph=graph))
    for node in axis_map.program.graph.nodes:
        if node in everything:
            copies[node] = graph.node_copy(node, copies.__getitem__)
            alone.axes[copies[node]] = read_axes(alone, copies[node])
    passed: dict[tuple[str, int], str] = {}
    for (node, axis), role in uses.items():
        atoms = set(atoms_of(alone.axes_of(copies[node])[axis]))
        readers = [user.name for user in node.users if user in live]
        for source in needed[node]:
            if source.op != "get_attr":
                continue
            axis_map.readers.setdefault(str(source.target), {}).update(dict.fromkeys(readers))
            for i, own in enumerate(alone.axes_of(copies[source])):
                if atoms.intersection(atoms_of(own)):
                    passed[str(source.target), i] = role
    axis_map.roles = {**axis_map.early_roles, **passed, **axis_map.roles}


def _find_sources(node: fx.Node) -> set[fx.Node]:
    """Return a node and all that its value is computed from."""
    found, pending = {node}, [node]
    while pending:
        fresh = set(pending.pop().all_input_nodes) - found
        found |= fresh
        pending += fresh
    return found
