"""Graphs, axes and networks as plain values that can be compared."""

from __future__ import annotations

from typing import Any

from pruner.axes import AxisMap, atoms_of
from pruner.graph import Program
from pruner.structure import Network


def describe_program(program: Program) -> list[Any]:
    """Everything that a Program's graph says, and which tensors it reads."""
    nodes = [
        (n.name, n.op, str(n.target), repr(n.args), repr(n.kwargs), repr(n.meta))
        for n in program.graph.nodes
    ]
    return [nodes, {name: (id(t), t._version) for name, t in program.tensors.items()}]


def describe_axes(axis_map: AxisMap) -> list[Any]:
    """Every axis with the sizes and reasons of its atoms."""
    return [
        {n.name: repr(axis_map.all_axes(n)) for n in axis_map.axes},
        [a.reason for n in axis_map.axes for x in axis_map.all_axes(n) for a in atoms_of(x)],
        {n.name: repr(found) for n, found in axis_map.symbolic_arguments.items()},
        {n.name: found for n, found in axis_map.reduction_axes.items()},
        dict(axis_map.roles),
        [n.name for n in axis_map.unsupported],
    ]


def describe_network(net: Network) -> list[Any]:
    """A Network without its tensors' values."""
    return [
        [(d.name, d.size, d.step, d.kind, repr(d.slots)) for d in net.dims.values()],
        dict(net.blocks),
        net.frozen,
        [(one.cell, one.nodes, one.blocks, repr(one.widths)) for one in net.located],
        net.module.code,
        net.module.training,
    ]
