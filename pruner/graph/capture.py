"""A network read by ``torch.export`` into a `Program`, with what it does in training only."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn

from ..errors import PrunerWarning, first_line
from .canonicalize import canonicalize
from .comparison import describe_difference
from .constant_numbers import fold_constant_numbers
from .custom_gradients import describe_functions, notice_functions
from .eval_mode import evaluation_mode
from .exporting import ExportCall, call_export, export_model
from .input_sizes import find_fixed_sizes
from .input_values import find_fixed_values
from .masked_writes import simplify_masked_writes
from .model_state import keep_model
from .name_escapes import alias_children, escape_names
from .ops import operator_name, remove_dead_nodes
from .program import Program
from .random_choices import fix_random_choices
from .torch_internals import RunningNorm
from .training_mode import carry_over_training, reads_training_flag
from .unfuse import unfuse_projections
from .weight_scales import hold_weight_scales
from .wrappers import unwrap_model

_RUNNING_NORMS = ("batch_norm", "instance_norm")


def capture_program(
    model: nn.Module,
    inputs: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    is_known: Callable[[Any], bool] = lambda target: True,
) -> Program:
    """Read a model, in evaluation mode, into a Program; the model is left as it was.

    The first axis of every tensor input is the batch, dynamic where ``torch.export`` can keep it
    so, else fixed at that of the inputs, with a warning. What only calls the model
    (``torch.compile``, data parallelism, weight averaging) is taken off. Operators
    that are not known are taken apart by torch.

    Raises:
        TraceError: It cannot be exported.
    """
    model = unwrap_model(model)
    with (
        _slow_attention(),
        evaluation_mode(model),
        notice_functions() as functions,
        alias_children(model) as names,
    ):
        exported = export_model(model, inputs, dict(kwargs or {}))
        program = canonicalize(exported.program, exported.batch, model, is_known)
        model.train()
        _mark_norms(program.graph, model)
        notes: tuple[str, ...] = ()
        if reads_training_flag(model):
            notes = _add_training(program, model, exported.call, is_known)
    notes += describe_functions(functions)
    if exported.reason:
        warnings.warn(
            f"{type(model).__name__} runs with a batch of {exported.batch} only, as it was traced: "
            f"{exported.reason}",
            PrunerWarning,
            stacklevel=3,
        )
    for note in describe_functions(functions):
        warnings.warn(f"{type(model).__name__}: {note}", PrunerWarning, stacklevel=3)
    fold_constant_numbers(program.graph, program.tensors, program.transient)
    simplify_masked_writes(program.graph)
    unfuse_projections(program.graph)
    remove_dead_nodes(program.graph)
    program = escape_names(hold_weight_scales(replace(program, notes=notes)), names)
    example = (model, program, inputs, dict(kwargs or {}))
    with keep_model(model), evaluation_mode(model):
        difference = describe_difference(*example)
        with _slow_attention():
            sizes = find_fixed_sizes(*example)
            values = find_fixed_values(*example)
    if difference:
        warnings.warn(f"{type(model).__name__}: {difference}", PrunerWarning, stacklevel=3)
    return replace(program, sizes=sizes, values=values)


@contextmanager
def _slow_attention() -> Iterator[None]:
    """Keep torch from running a whole encoder layer as one operator, padding left out."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _add_training(
    program: Program, model: nn.Module, call: ExportCall, is_known: Callable[[Any], bool]
) -> tuple[str, ...]:
    """Carry over what the model does in training only; return what of it is not kept."""
    for module in model.modules():
        if isinstance(module, RunningNorm):
            module.eval()  # its mode is its layer's own affair
    reason = ""
    # Masks over time of numpy's make a constant of the batch; the operators are the same.
    for fixed in dict.fromkeys((call.shapes is None, True)):
        try:
            with fix_random_choices() as choices:
                exported = call_export(model, replace(call, shapes=None) if fixed else call)
            break
        except Exception as error:  # many networks return or ask for something else in training
            reason = reason or first_line(error, with_kind=False)
    else:
        return (f"in training it cannot be exported, stochastic depth is lost: {reason}",)
    training = canonicalize(exported, program.batch, model, is_known)
    return (*carry_over_training(program.graph, training.graph), *choices.describe())


def _mark_norms(graph: fx.Graph, model: nn.Module) -> None:
    """Note which batch norms a model in training mode keeps frozen, which average all batches."""
    modules = dict(model.named_modules())
    for node in graph.nodes:
        module = modules.get(node.meta.get("path", ""))
        if isinstance(module, RunningNorm) and operator_name(node) in _RUNNING_NORMS:
            if not module.training:
                node.meta["training"] = {"frozen": True}
            elif module.momentum is None:
                node.meta["training"] = {"momentum": None}
