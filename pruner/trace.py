"""Read a model into a Network: axes by the rules, then Dims, Blocks and Cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from .blocks import blocks as find_blocks
from .cells import cells as find_cells
from .dims import dims_and_atoms, frozen, with_slots
from .materialize import materialize
from .network import Network
from .nodes import operator_name
from .program import Program, export
from .rehearse import rehearse
from .rules import RULES, Reading
from .rules.base import is_pointwise, where
from .rules.elementwise import pointwise


def trace(
    model: nn.Module,
    inputs: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    step: int | None = None,
    name: str | None = None,
) -> Network:
    """Find what can be cut in a model.

    Parameters
    ----------
    model
        Any module that ``torch.export`` reads; it is left as it was, and the Network shares its
        tensors.
    inputs, kwargs
        Example arguments; the first axis of every tensor is the batch.
    step
        Kept sizes are multiples of it; None chooses a power of two for every Dim, at most 8 and
        about an eighth of its size.

    Raises :class:`pruner.errors.TraceError` where the model cannot be exported.
    """
    if isinstance(inputs, Tensor):
        inputs = (inputs,)
    program = export(model, tuple(inputs), kwargs)
    flat = tuple(pytree.tree_leaves((inputs, dict(kwargs or {}))))
    kind = type(model).__name__
    return network(program, flat, name or kind, kind, step)


def network(
    program: Program, inputs: tuple[Any, ...], name: str, kind: str, step: int | None = None
) -> Network:
    """What can be cut in a Program; kind is the name of its module's class, inputs are flat."""
    reading = read(program)
    rehearse(reading)
    blocks = find_blocks(program.graph)
    dims, atoms = dims_and_atoms(reading, step, blocks)
    cells = find_cells(reading, atoms, blocks)
    dims = with_slots(reading, dims, atoms, blocks, cells)
    return Network(
        name=name,
        program=program,
        module=materialize(program, kind),
        inputs=inputs,
        dims=dims,
        blocks=blocks,
        frozen=frozen(reading),
        reading=reading,
        atoms=atoms,
        placed=cells,
    )


def read(program: Program) -> Reading:
    """Apply the rules, node by node."""
    reading = Reading(program)
    for node in program.graph.nodes:
        if node.op == "get_attr":
            reading.axes[node] = _tensor_axes(reading, node)
        elif node.op == "placeholder":
            shape = node.meta["shape"]
            reading.axes[node] = reading.frozen(shape, "an input of the network") if shape else []
        elif node.op == "output":
            for result in node.all_input_nodes:
                for axis in reading.axes[result]:
                    reading.freeze(axis, "an output of the network")
        else:
            reading.axes[node] = _apply_rule(reading, node)
    return reading


def _tensor_axes(reading: Reading, node: fx.Node) -> list[Any]:
    tensor = reading.program.tensors[str(node.target)]
    reason = None if tensor.is_floating_point() or tensor.is_complex() else "a table of indices"
    return [reading.fresh(size, reason) for size in tensor.shape]


def _apply_rule(reading: Reading, node: fx.Node) -> Any:
    name = operator_name(node)
    rule = RULES.get(name) or (pointwise if is_pointwise(node) else None)
    schema = getattr(node.target, "_schema", None)
    if node.meta["shape"] is None and schema is None:
        return []  # arithmetic on sizes
    if rule is not None and not (schema is not None and schema.is_mutable):
        result = rule(reading, node)
        if _fits(result, node.meta["shape"]):
            return result
    reading.unsupported.append(node)
    return reading.give_up(node, f"{where(node)} has no rule")


def _fits(result: Any, shape: Any) -> bool:
    """A rule that gets a shape wrong is treated as no rule: nothing is guessed."""
    if isinstance(shape, list):
        return len(result) == len(shape) and all(
            one is None or _fits(axes, one) for axes, one in zip(result, shape)
        )
    if shape is None:
        return True
    return len(result) == len(shape) and all(a.size == n for a, n in zip(result, shape))
