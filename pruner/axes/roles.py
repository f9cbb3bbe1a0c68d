"""Roles of parameters that operators change before a layer reads them.

A weight may be computed: masked, scaled, standardized, split off a larger one, transposed. What a
layer does with an axis of the result, it does with the axes of the parameters that this axis comes
from. Which these are, the same rules say that propagate axes through the network, applied to the
computation of the weight alone: there, the axes of different parameters, and the two axes of a
weight that reads and writes the same stream, are apart but for what the computation itself joins.

Of a weight that depends on the network's inputs (modulated, mixed), only the last element-wise
steps are looked through.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import fx

from ..graph import operator_arguments, operator_name
from .algebra import atoms_of
from .axis_map import AxisMap
from .rules.base import is_pointwise
from .rules.contraction import CONVOLUTIONS
from .rules.shape import VIEWS

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
    uses = {
        key: role
        for key, role in axis_map.computed_roles.items()
        if key[0] not in live or _is_weight(key[0])
    }
    if not uses:
        axis_map.roles = {**axis_map.early_roles, **axis_map.roles}
        return
    needed: dict[fx.Node, set[fx.Node]] = {node: _find_sources(node, live) for node, _ in uses}
    alone, copies = _read_alone(axis_map, {s for each in needed.values() for s in each}, read_axes)
    passed: dict[tuple[str, int], str] = {}
    mixed: dict[tuple[str, int], str] = {}
    for (node, axis), role in uses.items():
        atoms = set(atoms_of(alone.axes_of(copies[node])[axis]))
        readers = [user.name for user in node.users if user in live]
        for source in needed[node]:
            if source.op != "get_attr":
                continue
            axis_map.readers.setdefault(str(source.target), {}).update(dict.fromkeys(readers))
            for i, own in enumerate(alone.axes_of(copies[source])):
                if atoms.intersection(atoms_of(own)):
                    (mixed if node in live else passed)[str(source.target), i] = role
    axis_map.roles = {**mixed, **axis_map.early_roles, **passed, **axis_map.roles}


def _is_weight(node: fx.Node) -> bool:
    """Return whether a value is the weight of a layer."""
    return any(
        operator_name(user) in (*CONVOLUTIONS, "linear")
        and operator_arguments(user)["weight"] is node
        for user in node.users
    )


def _find_sources(node: fx.Node, live: set[fx.Node]) -> set[fx.Node]:
    """Return a node and what its value is computed from: all where that is tensors alone.

    Else the operators that leave every number in its place, and what is computed before them.
    """
    found, pending = {node}, [node]
    while pending:
        one = pending.pop()
        if one in live and not (is_pointwise(one) or operator_name(one) in VIEWS):
            continue
        fresh = set(one.all_input_nodes) - found
        found |= fresh
        pending += fresh
    return found


def _read_alone(
    axis_map: AxisMap, nodes: set[fx.Node], read_axes: ReadAxes
) -> tuple[AxisMap, dict[fx.Node, fx.Node]]:
    """Return the axes of copies of these nodes in a graph of their own, and the copies.

    Those that read others stand for their results alone.
    """
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    alone = AxisMap(replace(axis_map.program, graph=graph))
    for node in axis_map.program.graph.nodes:
        if node not in nodes:
            continue
        if node.op == "placeholder" or not nodes.issuperset(node.all_input_nodes):
            made = copies[node] = graph.placeholder(node.name)
            made.meta = dict(node.meta)
            shapes = node.meta["shape"]
            several = isinstance(shapes, list)
            axes = [[alone.new_axis(n) for n in s or ()] for s in (shapes if several else [shapes])]
            alone.axes[made] = axes if several else axes[0]
        else:
            copies[node] = graph.node_copy(node, copies.__getitem__)
            alone.axes[copies[node]] = read_axes(alone, copies[node])
    return alone, copies
