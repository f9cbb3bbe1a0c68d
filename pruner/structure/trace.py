"""Traces a model into a Network: axes by the rules, then Dims, Blocks and Cells."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..axes import has_rule, propagate_axes, validate_axes
from ..errors import TraceError
from ..graph import (
    Program,
    capture_program,
    describe_traceable_parts,
    join_programs,
    materialize,
    unwrap_model,
)
from .cells import find_cells
from .dims import attach_slots, find_dims, find_uncuttable, list_frozen
from .network import Network
from .residual_blocks import find_blocks


def trace(
    model: nn.Module,
    inputs: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    step: int | None = None,
    name: str | None = None,
) -> Network:
    """Find what can be cut in a model.

    Args:
        model: Any module that ``torch.export`` reads; it is left as it was, and the Network shares
            its tensors. One inside of ``torch.compile``, data parallelism or weight averaging is
            taken out.
        inputs: Example arguments; the first axis of every tensor is the batch.
        kwargs: Example keyword arguments.
        step: Kept sizes are multiples of it; None chooses a power of two for every Dim, at most 8
            and about an eighth of its size.
        name: The network's name; None: the name of its class.

    Raises:
        TraceError: The model cannot be exported; it names the largest parts that can.
    """
    if isinstance(inputs, Tensor):
        inputs = (inputs,)
    model = unwrap_model(model)
    try:
        program = capture_program(model, tuple(inputs), kwargs, has_rule)
    except TraceError as error:
        raise _name_parts(error, model, tuple(inputs), kwargs) from error
    flat = tuple(pytree.tree_leaves((inputs, dict(kwargs or {}))))
    kind = type(model).__name__
    return build_network(program, flat, name or kind, kind, step)


def trace_parts(
    parts: Mapping[str, tuple[nn.Module, tuple[Any, ...], Mapping[str, Any]]],
    *,
    step: int | None = None,
    name: str | None = None,
) -> Network:
    """Find what can be cut in several parts of a model, as one Network.

    The parts lie side by side: what one hands to another keeps its sizes. The Network's module
    takes one argument a part, the pair (args, kwargs) of its call, and returns a tuple.

    Args:
        parts: Dotted path in the model -> the part and example arguments of it; no part is within
            another. Names of tensors, Dims, Blocks and cells begin with the path.
        step: As in `trace`.
        name: The Network's name; None: the paths.

    Raises:
        TraceError: A part cannot be exported, then parts of it are named that can, or it runs with
            one batch only.
    """
    programs, calls = {}, []
    for path, (wrapped, args, kwargs) in parts.items():
        part = unwrap_model(wrapped)
        try:
            programs[path] = capture_program(part, tuple(args), kwargs, has_rule)
        except TraceError as error:
            raise _name_parts(error, part, tuple(args), kwargs, path) from error
        calls.append((tuple(args), dict(kwargs)))
    flat = tuple(pytree.tree_leaves(((tuple(calls)), {})))
    return build_network(join_programs(programs), flat, name or ", ".join(parts), "Parts", step)


def _name_parts(
    error: TraceError,
    model: nn.Module,
    inputs: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None,
    path: str = "",
) -> TraceError:
    """Return a TraceError that names the parts of a model that can be traced, below a path."""
    found = describe_traceable_parts(model, inputs, kwargs or {})
    below = f", NAME below {path}" if path else ""
    advice = (
        f"What can be traced with --submodule NAME{below}: {found}"
        if found
        else "No part of it of more than one layer was found that can be traced by itself"
    )
    return TraceError(f"{error}. {advice}")


def build_network(
    program: Program, inputs: tuple[Any, ...], name: str, kind: str, step: int | None = None
) -> Network:
    """Find what can be cut in a Program, which is left as it was; step as in `trace`.

    Inputs are the example arguments one after the other, nested ones taken apart; kind is the name
    of the module's class.
    """
    axis_map = validate_axes(propagate_axes(program))
    axis_map = axis_map.freeze_atoms(find_uncuttable(axis_map))
    program = axis_map.program
    blocks = find_blocks(program.graph)
    dims, atoms = find_dims(axis_map, step, blocks)
    cells = find_cells(axis_map, atoms, blocks)
    dims = attach_slots(axis_map, dims, atoms, blocks, cells)
    return Network(
        name=name,
        program=program,
        module=materialize(program, kind),
        inputs=inputs,
        dims=dims,
        blocks=blocks,
        frozen=list_frozen(axis_map),
        axis_map=axis_map,
        atoms=atoms,
        located=cells,
    )
