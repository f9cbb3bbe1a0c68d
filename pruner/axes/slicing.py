"""Cuts a Program: slices its tensors, drops blocks, rewrites the sizes that stand in it."""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from ..graph import Block, Program, drop_blocks
from ..utils import choose_unused_name
from .axis_map import AxisMap
from .positions import Keep, kept_mask


def cut_program(axis_map: AxisMap, keep: Keep, dropped: Sequence[Block] = ()) -> Program:
    """Return a Program of its own with the indices that keep names and without dropped blocks.

    Its tensors are copies; the joins of dropped blocks give what skips them. What no operator reads
    stays as it is with the innermost module around it that has tensors that are read.
    """
    program = axis_map.program
    graph = copy.deepcopy(program.graph)
    tensors: dict[str, Tensor] = {}
    copies = dict(zip(program.graph.nodes, graph.nodes))
    for node, own in copies.items():
        if node.op == "get_attr":
            name = str(node.target)
            tensors[name] = _slice(
                program.tensors[name], [kept_mask(axis, keep) for axis in axis_map.axes[node]]
            )
        for path, axis in axis_map.symbolic_arguments.get(node, {}).items():
            _write_argument(own, path, int(kept_mask(axis, keep).sum()))
    made = _cut_sequences(axis_map, keep, copies)
    tensors.update(made)
    drop_blocks(graph, dropped)
    used = {str(node.target) for node in graph.nodes if node.op == "get_attr"}
    before, left = group_by_module(tensors), group_by_module(used)
    for name, tensor in program.tensors.items():  # counters and the like, read by no operator
        holder = next((one for one in list_modules_around(name) if one in before), None)
        if name not in tensors and holder in left:
            tensors[name] = _slice(tensor, [])
            used.add(name)
    return replace(
        program,
        graph=graph,
        tensors={k: v for k, v in tensors.items() if k in used},
        transient=program.transient.union(made),
    )


def _cut_sequences(
    axis_map: AxisMap, keep: Keep, copies: Mapping[fx.Node, fx.Node]
) -> dict[str, Tensor]:
    """Put a buffer in the place of each constant of the graph that is cut; return the buffers."""
    made: dict[str, Tensor] = {}
    for node in axis_map.sequences:
        masks = [kept_mask(axis, keep) for axis in axis_map.axes_of(node)]
        if all(mask.all() for mask in masks):
            continue
        path, own = node.meta.get("path"), copies[node]
        name = choose_unused_name(
            f"{path}.{node.name}" if path else node.name, {*axis_map.program.tensors, *made}
        )
        target: Any = node.target
        made[name] = _slice(target(*node.args, **node.kwargs), masks)
        with own.graph.inserting_before(own):
            held = own.graph.get_attr(name)
        held.meta = dict(own.meta)
        own.replace_all_uses_with(held)
        own.graph.erase_node(own)
    return made


def group_by_module(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the modules that tensors of these names lie in, at any depth, with the names."""
    found: dict[str, list[str]] = {}
    for name in names:
        for module in list_modules_around(name):
            found.setdefault(module, []).append(name)
    return found


def list_modules_around(name: str) -> Iterator[str]:
    """Yield the modules around a tensor, innermost first, the network ("") last."""
    while name:
        name = name.rpartition(".")[0]
        yield name


def _slice(tensor: Tensor, masks: list[NDArray[np.bool_]]) -> Tensor:
    """Return a copy of a tensor with the positions of every axis that its mask keeps."""
    values = tensor.detach()
    for axis, kept in enumerate(masks):
        if not kept.all():
            index = torch.from_numpy(np.flatnonzero(kept)).to(values.device)
            values = values.index_select(axis, index)
    values = values.clone(memory_format=torch.contiguous_format)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(values, tensor.requires_grad)
    return values


def _write_argument(node: fx.Node, path: tuple[int | str, ...], number: int) -> None:
    """Put a number at a place in a node's (immutable) arguments."""
    first, *rest = path

    def replace_at(value: Any, steps: list[int | str]) -> Any:
        if not steps:
            return number
        items = list(value)
        items[int(steps[0])] = replace_at(items[int(steps[0])], steps[1:])
        return items

    if isinstance(first, str):
        node.kwargs = {**node.kwargs, first: replace_at(node.kwargs[first], rest)}
    else:
        node.args = tuple(replace_at(a, rest) if i == first else a for i, a in enumerate(node.args))
