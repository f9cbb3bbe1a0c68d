"""Lets numbers that a network makes itself meet its data in the type that the data have."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from .ops import operator_name
from .program import Program

_LIKE = ("full_like", "zeros_like", "ones_like", "empty_like")


def follow_data_type(graph: fx.Graph, program: Program, new: Mapping[fx.Node, fx.Node]) -> None:
    """Cast what depends on no weight and no real input where it meets one that does, in place.

    Positions and masks are made as ``torch.arange(n, dtype=x.dtype)``, or in float32 and cast to
    ``x.dtype``; the graph holds the type that this was. They are computed in it and cast to that
    of the input, so that a module after ``half()`` or ``double()`` runs.

    Args:
        graph: Of a module to be.
        program: What it is made of.
        new: Node of the program's graph -> that of this one.
    """
    types = {t.dtype for t in program.tensors.values() if t.is_floating_point()}
    if len(types) != 1:
        return
    made = _find_made_numbers(program.graph, *types)
    casts: dict[fx.Node, fx.Node] = {}
    source: fx.Node | None = None
    for node in program.graph.nodes:
        values = [value for value in node.all_input_nodes if value in made]
        if node.op != "call_function" or not values or node in made or not _reads_data(node, made):
            continue
        for value in dict.fromkeys(new[value] for value in values):
            if value not in casts:
                source = source or _find_data(graph, program, new, *types)
                with graph.inserting_after(max(value, source)):
                    cast: Any = torch.ops.aten.type_as.default
                    casts[value] = graph.call_function(cast, (value, source))
            if new[node] is not value:  # of a cast that is left out
                new[node].replace_input_with(value, casts[value])


def _find_made_numbers(graph: fx.Graph, dtype: torch.dtype) -> set[fx.Node]:
    """Find the tensors of a type that are computed from integers, sizes and constants alone."""
    data: set[fx.Node] = set()
    made: set[fx.Node] = set()
    for node in graph.nodes:
        kind, shape = node.meta.get("dtype"), node.meta.get("shape")
        several = isinstance(shape, list)
        exact = kind is not None and not (kind.is_floating_point or kind.is_complex)
        if not several and (shape is None or exact):
            continue
        copies_shape = operator_name(node).startswith("new_") or operator_name(node) in _LIKE
        read = () if copies_shape else node.all_input_nodes
        if node.op != "call_function" or any(source in data for source in read):
            data.add(node)
        elif kind is dtype and shape:
            made.add(node)
    return made


def _reads_data(node: fx.Node, made: set[fx.Node]) -> bool:
    """Return whether an operator reads numbers that are not made by the network itself."""
    return any(
        source not in made and (kind := source.meta.get("dtype")) is not None
        and kind.is_floating_point and source.meta.get("shape")
        for source in node.all_input_nodes
    )  # fmt: skip


def _find_data(
    graph: fx.Graph, program: Program, new: Mapping[fx.Node, fx.Node], dtype: torch.dtype
) -> fx.Node:
    """Return the first input of a type, or else the first weight, read before all else."""
    inputs = [node for node in program.graph.nodes if node.op == "placeholder"]
    for node in inputs:
        if node.meta.get("dtype") is dtype:
            return new[node]
    name = next(name for name, t in program.tensors.items() if t.dtype is dtype)
    with graph.inserting_after(new[inputs[-1]]):
        return graph.get_attr(name)
