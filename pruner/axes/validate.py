"""Validates axes by a trial cut without numbers and freezes those whose shapes it does not meet.

The rules are small and each is tested, but the operators of the world are many. Before a Network is
handed out, every free atom is cut to some size and the graph is run on tensors that have a shape
and nothing else. The first value whose shape is not the one that its axes predict, or whose
operator fails, names axes that are not understood; they are frozen, and the validation begins anew.
"""

import copy
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from ..graph import FakeTensorMode, Program
from ..utils import silence_logging
from .algebra import Atom, atoms_of
from .axis_map import AxisMap, describe_node
from .positions import axis_size
from .slicing import cut_program


def validate_axes(axis_map: AxisMap) -> AxisMap:
    """Return a copy in which those axes are frozen that a trial cut shows not to be understood.

    Where there are none, the axis_map itself is returned.
    """
    while (wrong := _find_mismatch(axis_map)) is not None:  # each round freezes some atom
        reason = f"the shape of {describe_node(wrong)} does not follow a cut"
        suspects = _free_atoms(axis_map, [wrong, *wrong.all_input_nodes])
        if not suspects:  # it fails, and nothing near it is free: then nothing may be cut
            reason = "a trial cut of the network fails"
            return axis_map.freeze_atoms(
                dict.fromkeys(_free_atoms(axis_map, axis_map.axes), reason)
            )
        axis_map = axis_map.freeze_atoms(dict.fromkeys(suspects, reason))
    return axis_map


def _free_atoms(axis_map: AxisMap, nodes: Iterable[fx.Node]) -> dict[Atom, None]:
    """Return the free atoms of the values of nodes, in their order."""
    axes = (axis for node in nodes for axis in axis_map.all_axes(node))
    return dict.fromkeys(a for axis in axes for a in atoms_of(axis) if a.reason is None)


def _find_mismatch(axis_map: AxisMap) -> fx.Node | None:
    """Return the first node whose shape a trial cut does not meet, None where it meets all."""
    keep = _choose_cut(axis_map)
    if not keep:
        return None
    light = copy.copy(axis_map)  # its tensors have shapes only: slicing them costs nothing
    light.program = replace(
        axis_map.program, tensors={k: v.to("meta") for k, v in axis_map.program.tensors.items()}
    )
    sizes = {atom: int(kept.sum()) for atom, kept in keep.items()}
    predicted = {node.name: _predict_shape(axes, sizes) for node, axes in axis_map.axes.items()}
    wrong = _run_shapes(cut_program(light, keep), predicted)
    if wrong is None:
        return None
    name, raised = wrong
    if raised and _run_shapes(light.program, {}) == wrong:
        return None  # it does not run without numbers, cut or not: no verdict
    return next(node for node in axis_map.program.graph.nodes if node.name == name)


def _choose_cut(axis_map: AxisMap) -> dict[Atom, NDArray[np.bool_]]:
    """Keep some indices of every free atom of a tensor, not two alike if it can be helped."""
    rng = np.random.default_rng(0)
    free = _free_atoms(axis_map, axis_map.tensor_nodes())
    return {atom: np.arange(atom.size) < rng.integers(1, max(atom.size, 2)) for atom in free}


def _predict_shape(axes: Any, sizes: dict[Atom, int]) -> Any:
    """Return the shape of axes, or of each of several results, at sizes of atoms."""
    if axes and isinstance(axes[0], list):
        return [_predict_shape(row, sizes) for row in axes]
    return tuple(axis_size(axis, sizes) for axis in axes)


class _MismatchError(Exception):
    """The name of the node that does not fit, and whether it raised an exception."""


def _run_shapes(program: Program, predicted: dict[str, Any]) -> tuple[str, bool] | None:
    """Run a Program on tensors without numbers.

    Returns:
        The name of the first node that fails (with True) or has another shape than predicted
        (with False); None where all goes well.
    """
    # what fails here is an answer, not the user's concern
    with silence_logging(), FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        values = {
            node: _make_empty(program, node)
            for node in program.graph.nodes
            if node.op in ("placeholder", "get_attr")
        }
        try:
            _ShapeInterpreter(program.graph, predicted).run(
                initial_env=values, enable_io_processing=False
            )
        except _MismatchError as mismatch:
            name, raised = mismatch.args
            return name, raised
    return None


def _make_empty(program: Program, node: fx.Node) -> Tensor | None:
    """Return a tensor of the shape and type of an input, a parameter or a buffer."""
    if node.op == "get_attr":
        tensor = program.tensors[str(node.target)]
        return torch.empty(tensor.shape, dtype=tensor.dtype)
    shape = node.meta["shape"]
    return None if shape is None else torch.empty(shape, dtype=node.meta["dtype"])


class _ShapeInterpreter(fx.Interpreter):
    """Runs a graph and raises `_MismatchError` at the first shape that is not as predicted."""

    def __init__(self, graph: fx.Graph, predicted: dict[str, Any]) -> None:
        super().__init__(nn.Module(), graph=graph)
        self.extra_traceback = False
        self.predicted = predicted

    def run_node(self, n: fx.Node) -> Any:
        """Run one operator and compare its shape; the output node is not run."""
        if n.op == "output":
            return None
        try:
            value = super().run_node(n)
        except Exception as error:  # whatever an operator raises of a shape that it cannot take
            raise _MismatchError(n.name, True) from error
        if n.name in self.predicted and not _has_shape(value, self.predicted[n.name]):
            raise _MismatchError(n.name, False)
        return value


def _has_shape(value: Any, shape: Any) -> bool:
    """Return whether a value has a shape; of several results, those that are tensors."""
    if isinstance(value, Tensor):
        return tuple(value.shape) == tuple(shape)
    if isinstance(value, list | tuple) and isinstance(shape, list):
        return all(_has_shape(v, s) for v, s in zip(value, shape) if isinstance(v, Tensor) and s)
    return True
