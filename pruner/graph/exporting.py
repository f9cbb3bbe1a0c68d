"""Calls ``torch.export``: with a dynamic batch where that can be, and says why where it cannot."""

import contextlib
import inspect
import io
import linecache
import os
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..errors import TraceError
from ..utils import silence_logging
from .even_splits import EvenSplits
from .model_state import keep_model
from .program import BATCH_HINT
from .recurrent_shapes import quick_recurrent_shapes
from .symbolic_lengths import keep_lengths_symbolic
from .torch_internals import (
    forget_guards,
    given_causality,
    is_data_dependent,
    is_specialization,
)

_OWN = tuple(
    os.path.dirname(os.path.abspath(file)) + os.sep
    for file in (torch.__file__, os.path.dirname(__file__), contextlib.__file__)
)


@dataclass(frozen=True)
class ExportCall:
    """Arguments of an export, which of their axes are free (``dynamic_shapes``), and its mode.

    Strict: the model's code is read and not run, so that ``int(x.shape[0])`` makes no constant.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    shapes: Any = None
    strict: bool = False


@dataclass(frozen=True)
class Exported:
    """What ``torch.export`` read.

    Attributes:
        program: The exported program.
        batch: ``BATCH_HINT``, or the batch that it insists on.
        call: What it was called with.
        reason: Why the batch is fixed, in words; empty where it is free.
        retried: Whether it took another batch than the example's to keep it free.
    """

    program: torch.export.ExportedProgram
    batch: int
    call: ExportCall
    reason: str = ""
    retried: bool = False


def export_model(model: nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Exported:
    """Export a model with a dynamic batch, or else with that of its inputs.

    The batch is the first axis of every tensor input, of those that share the first one's size. A
    model that was called before may keep tensors of that call and tell by the batch whether they
    still hold; then another batch leaves it free. Code that makes a number of the batch may be read
    where it cannot be run.

    Raises:
        TraceError: It cannot be exported.
    """
    leaves = [leaf for leaf in pytree.tree_leaves((inputs, kwargs)) if _has_batch(leaf)]
    if not leaves:
        raise TraceError("no tensor among the example inputs; give the model's inputs as tensors")
    size = len(leaves[0])
    first: Exception | None = None
    example = max(size, 2)
    for least, batch, strict in ((1, example, False), (example + 1, 2 * example + 3, False),
                                 (1, example, True)):  # fmt: skip
        free = torch.export.Dim("batch", min=least)
        call = replace(free_batch(model, inputs, kwargs, free, batch), strict=strict)
        try:
            return Exported(call_export(model, call), BATCH_HINT, call, retried=first is not None)
        except Exception as failure:  # torch.export raises of many kinds; all mean the same here
            first = first or failure
            if not is_specialization(failure):
                break
    call = ExportCall(inputs, kwargs)
    try:
        program = call_export(model, call)
    except Exception as failure:
        cause = failure if first is None or is_specialization(first) else first
        raise TraceError(
            f"torch.export cannot read {type(model).__name__}: {describe_failure(cause)}"
        ) from failure
    return Exported(program, size, call, describe_failure(first))


def call_export(model: nn.Module, call: ExportCall) -> torch.export.ExportedProgram:
    """Export a model, which is left as it was."""
    # A failure is logged and printed with its whole graph, then raised.
    printed = contextlib.redirect_stderr(io.StringIO())
    quiet = (warnings.catch_warnings(), printed, silence_logging(), torch.no_grad())
    with contextlib.ExitStack() as stack:
        stack.enter_context(keep_model(model))
        if not call.strict:  # read, and not run, it needs none
            stack.enter_context(keep_lengths_symbolic(model))
            stack.enter_context(EvenSplits())
        for context in (*quiet, quick_recurrent_shapes(), given_causality()):
            stack.enter_context(context)
        warnings.simplefilter("ignore")
        exported = torch.export.export(
            model, call.args, call.kwargs, dynamic_shapes=call.shapes, strict=call.strict
        )
    forget_guards(exported)
    return exported


def export_program(
    module: nn.Module, inputs: tuple[Tensor, ...], *, free: bool
) -> torch.export.ExportedProgram:
    """Export a network of plain tensors, with the first axis of its inputs free or as they have it.

    Raises of many kinds where it cannot, as ``torch.export`` does.
    """
    call = ExportCall(inputs, {})
    if free:
        call = free_batch(module, inputs, {}, torch.export.Dim("batch"))
    return call_export(module, call)


def free_batch(
    model: nn.Module, inputs: tuple[Any, ...], kwargs: Mapping[str, Any], batch: Any, size: int = 2
) -> ExportCall:
    """Return a call of a model with the batch, the first axis of its tensors, free.

    Args:
        model: Its signature tells the arguments' names.
        inputs: Example arguments.
        kwargs: Example keyword arguments.
        batch: The ``torch.export.Dim``.
        size: The batch to export with, at least 2: 1 would be taken for fixed.
    """
    leaves = [leaf for leaf in pytree.tree_leaves((inputs, dict(kwargs))) if _has_batch(leaf)]
    common = len(leaves[0])

    def widen(leaf: Any) -> Any:
        if not _has_batch(leaf) or len(leaf) != common or common == 0:
            return leaf
        return torch.cat([leaf] * -(-size // common))[:size] if common != size else leaf

    def free(leaf: Any) -> Any:
        return {0: batch} if _has_batch(leaf) and len(leaf) == common else None

    args, keywords = pytree.tree_map(widen, (inputs, dict(kwargs)))
    # By name, as the body of forward sees its arguments, *args and **kwargs being one each.
    bound = inspect.signature(model.forward).bind(*inputs, **kwargs).arguments
    return ExportCall(args, keywords, pytree.tree_map(free, dict(bound)))


def _has_batch(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.dim() > 0


def describe_failure(error: Exception | None) -> str:
    """Say in one line why an export failed, and in which line of the model's code."""
    if error is None:
        return "nothing failed"
    lines = [line.strip(" -") for line in str(error).strip().splitlines() if line.strip()]
    said = lines[0] if lines else type(error).__name__
    if is_specialization(error):
        said = "its code makes a constant of the batch, or asks for that of an earlier call"
    elif is_data_dependent(error):
        said = f"its Python code asks for values of a tensor (data-dependent control flow): {said}"
    said = said.removesuffix(".")
    place = find_place(error)
    return f"{said} ({place})" if place else said


def find_place(error: BaseException) -> str:
    """Return file, line and text of the innermost line of the model's own code, "" for none."""
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        file = os.path.abspath(frame.filename)
        if not file.startswith(_OWN) and os.path.isfile(file):
            text = linecache.getline(frame.filename, frame.lineno or 0).strip()
            return f"{frame.filename}:{frame.lineno}: {text}"
    return ""
