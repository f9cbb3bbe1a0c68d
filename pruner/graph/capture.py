"""A network read by ``torch.export`` into a `Program`, with what it does in training only."""

import contextlib
import inspect
import io
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from ..errors import TraceError, first_line
from ..utils import silence_logging
from .canonicalize import canonicalize
from .eval_mode import evaluation_mode
from .ops import operator_name, remove_dead_nodes
from .program import BATCH_HINT, Program
from .torch_internals import RunningNorm
from .training_mode import carry_over_training, reads_training_flag
from .unfuse import unfuse_projections

ExportCall = tuple[tuple[Any, ...], dict[str, Any], Any]
"""Example arguments, keyword arguments, and their dynamic shapes (None: all are fixed)."""


def capture_program(
    model: nn.Module, inputs: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None
) -> Program:
    """Read a model, in evaluation mode, into a Program; the model is left as it was.

    The first axis of every tensor input is the batch, dynamic where ``torch.export`` can keep it
    so, else fixed at that of the inputs.

    Raises:
        TraceError: It cannot be exported.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one operator for a whole encoder layer
    try:
        with evaluation_mode(model):
            exported, batch, call = _export(model, inputs, dict(kwargs or {}))
            program = canonicalize(exported, batch, model)
            model.train()
            _mark_norms(program.graph, model)
            notes = _add_training(program, model, call) if reads_training_flag(model) else ()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    unfuse_projections(program.graph)
    remove_dead_nodes(program.graph)
    return replace(program, notes=notes)


def _add_training(program: Program, model: nn.Module, call: ExportCall) -> tuple[str, ...]:
    """Carry over what the model does in training only; return what of it is not kept."""
    for module in model.modules():
        if isinstance(module, RunningNorm):
            module.eval()  # its mode is its layer's own affair
    try:
        exported = _call_export(model, *call)
    except Exception as error:  # many networks return or ask for something else in training
        reason = first_line(error, with_kind=False)
        return (f"in training it cannot be exported, stochastic depth is lost: {reason}",)
    return carry_over_training(program.graph, canonicalize(exported, program.batch, model).graph)


def _mark_norms(graph: fx.Graph, model: nn.Module) -> None:
    """Note which batch norms a model in training mode keeps frozen, which average all batches."""
    modules = dict(model.named_modules())
    for node in graph.nodes:
        module = modules.get(node.meta.get("path", ""))
        if isinstance(module, RunningNorm) and "norm" in operator_name(node):
            if not module.training:
                node.meta["training"] = {"frozen": True}
            elif module.momentum is None:
                node.meta["training"] = {"momentum": None}


def _export(
    model: nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[torch.export.ExportedProgram, int, ExportCall]:
    """Return the model exported with a dynamic batch, or else a fixed one; the batch; the call."""
    leaves = [leaf for leaf in pytree.tree_leaves((inputs, kwargs)) if isinstance(leaf, Tensor)]
    sizes = {leaf.shape[0] for leaf in leaves if leaf.dim()}
    if not leaves:
        raise TraceError("no tensor among the example inputs; give the model's inputs as tensors")
    error: Exception | None = None
    if len(sizes) == 1:
        call = free_batch(model, inputs, kwargs, torch.export.Dim("batch", min=1))
        try:
            return _call_export(model, *call), BATCH_HINT, call
        except Exception as failure:  # torch.export raises of many kinds; all mean the same here
            error = failure
    call = (inputs, kwargs, None)
    try:
        exported = _call_export(model, *call)
    except Exception as failure:
        reason = first_line(error or failure, with_kind=False)
        raise TraceError(
            f"torch.export cannot read {type(model).__name__}: {reason}. "
            "Give a part of it that can be traced, such as its backbone."
        ) from failure
    return exported, next(iter(sizes), 1), call


def _call_export(
    model: nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any], shapes: Any
) -> torch.export.ExportedProgram:
    # A failure is logged and printed with its whole graph, then raised.
    printed = contextlib.redirect_stderr(io.StringIO())
    with warnings.catch_warnings(), printed, silence_logging(), torch.no_grad():
        warnings.simplefilter("ignore")
        return torch.export.export(model, inputs, kwargs, dynamic_shapes=shapes, strict=False)


def free_batch(
    model: nn.Module, inputs: tuple[Any, ...], kwargs: Mapping[str, Any], batch: Any
) -> ExportCall:
    """Return a model's arguments with every tensor's first axis free: the ``torch.export.Dim``.

    A tensor of batch 1 is doubled, else 1 would be taken for fixed.
    """

    def widen(leaf: Any) -> Any:
        return torch.cat([leaf, leaf]) if _has_batch(leaf) and len(leaf) == 1 else leaf

    args, keywords = pytree.tree_map(widen, (inputs, dict(kwargs)))
    free, free_keywords = pytree.tree_map(
        lambda leaf: {0: batch} if _has_batch(leaf) else None, (inputs, dict(kwargs))
    )
    if not kwargs:
        return args, keywords, free
    # With keyword arguments, torch.export wants all dynamic shapes in one dictionary by name.
    names = [name for name in inspect.signature(model.forward).parameters if name not in kwargs]
    return args, keywords, {**dict(zip(names, free)), **free_keywords}


def _has_batch(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.dim() > 0
