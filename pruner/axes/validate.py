"""A cut on trial, without numbers: where a shape is not what the axes say, they are frozen.

The rules are small and each is tested, but the operators of the world are many. Before a Network is
handed out, every free atom is cut to some size and the graph is run on tensors that have a shape
and nothing else. The first value whose shape is not the one that its axes foretell, or whose
operator fails, names axes that are not understood; they are frozen, and the rehearsal begins anew.
"""

from __future__ import annotations

import copy
import logging
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode

from ..graph import Program
from .algebra import Atom, atoms_of, axis_size, is_free
from .rules import AxisMap
from .rules.base import describe_node
from .slicing import cut_program

_MOST_ROUNDS = 12


def validate_axes(axis_map: AxisMap) -> AxisMap:
    """Freeze what a trial cut shows not to be understood; the axis_map is changed in place."""
    for _ in range(_MOST_ROUNDS):
        keep = _trial(axis_map)
        wrong = _first_wrong(axis_map, keep) if keep else None
        if wrong is None:
            return axis_map
        suspects = [wrong, *wrong.all_input_nodes]
        if not _freeze(
            axis_map, suspects, f"the shape of {describe_node(wrong)} does not follow a cut"
        ):
            break
    else:
        return axis_map
    for node in axis_map.axes:  # it fails, and nothing near it is free: then nothing may be cut
        _freeze(axis_map, [node], "a trial cut of the network fails")
    return axis_map


def _trial(axis_map: AxisMap) -> dict[Atom, NDArray[np.bool_]]:
    """Every free atom of a tensor keeps some of its indices, not two alike if it can be helped."""
    rng = np.random.default_rng(0)
    free = {
        atom: None
        for node in axis_map.program.graph.nodes
        if node.op == "get_attr"
        for axis in axis_map.axes[node]
        for atom in atoms_of(axis)
        if atom.reason is None
    }
    return {atom: np.arange(atom.size) < rng.integers(1, max(atom.size, 2)) for atom in free}


def _freeze(axis_map: AxisMap, nodes: list[fx.Node], reason: str) -> bool:
    """Whether something that was free is now frozen."""
    changed = False
    for node in nodes:
        known = axis_map.axes.get(node) or []
        for axis in [a for row in known for a in (row if isinstance(row, list) else [row])]:
            changed = changed or is_free(axis)
            axis_map.freeze(axis, reason)
    return changed


def _first_wrong(axis_map: AxisMap, keep: dict[Atom, NDArray[np.bool_]]) -> fx.Node | None:
    """The first node whose shape is not what its axes say, None if all are."""
    light = copy.copy(axis_map)  # its tensors have shapes only: slicing them costs nothing
    light.program = replace(
        axis_map.program, tensors={k: v.to("meta") for k, v in axis_map.program.tensors.items()}
    )
    sizes = {atom: int(kept.sum()) for atom, kept in keep.items()}
    foretold = {
        node.name: _sizes(axis_map.axes.get(node), sizes) for node in axis_map.program.graph.nodes
    }
    program = cut_program(light, keep)
    wrong = _run(program, foretold)
    if wrong is None:
        return None
    name, failed = wrong
    if failed and _run(light.program, {}) == wrong:
        return None  # it does not run without numbers, cut or not: no verdict
    return next(node for node in axis_map.program.graph.nodes if node.name == name)


def _sizes(axes: Any, sizes: dict[Atom, int]) -> Any:
    if isinstance(axes, list) and axes and isinstance(axes[0], list):
        return [_sizes(row, sizes) for row in axes]
    return tuple(axis_size(axis, sizes) for axis in axes or ())


def _run(program: Program, foretold: dict[str, Any]) -> tuple[str, bool] | None:
    """The first node that fails (True) or has another shape (False), None where all goes well."""
    values: dict[fx.Node, Any] = {}
    logging.disable(logging.CRITICAL)  # what fails here is an answer, not the user's concern
    try:
        return _run_quietly(program, foretold, values)
    finally:
        logging.disable(logging.NOTSET)


def _run_quietly(
    program: Program, foretold: dict[str, Any], values: dict[fx.Node, Any]
) -> tuple[str, bool] | None:
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        for node in program.graph.nodes:
            if node.op == "output":
                continue
            try:
                if node.op == "placeholder":
                    shape, dtype = node.meta["shape"], node.meta["dtype"]
                    value = None if shape is None else torch.empty(shape, dtype=dtype)
                elif node.op == "get_attr":
                    tensor = program.tensors[str(node.target)]
                    value = torch.empty(tensor.shape, dtype=tensor.dtype)
                else:
                    args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
                    value = node.target(*args, **kwargs)
            except Exception:  # whatever an operator raises of a shape that it cannot take
                return node.name, True
            values[node] = value
            if node.name in foretold and not _fits(value, foretold[node.name]):
                return node.name, False
    return None


def _fits(value: Any, shape: Any) -> bool:
    if isinstance(value, Tensor):
        return tuple(value.shape) == tuple(shape)
    if isinstance(value, list | tuple) and isinstance(shape, list):
        return all(_fits(v, s) for v, s in zip(value, shape) if isinstance(v, Tensor) and s)
    return True
