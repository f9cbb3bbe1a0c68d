"""Calls a model and its graph on the same inputs, and says where they part."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from .ops import operator_name
from .program import BATCH_HINT, Program
from .recurrent_shapes import RECURRENT

_SELECTIONS = ("topk", "sort", "argsort", "nms")
"""Among near equals rounding decides what they choose: no difference after them tells anything."""
_FEW = 0.01
"""The share of integers and truth values that rounding may turn over."""


def read_leaves(
    program: Program, inputs: tuple[Any, ...], kwargs: Mapping[str, Any], most: int
) -> list[Any]:
    """Return example arguments one after the other, nested ones taken apart, none on ``meta``.

    Of a graph whose batch is free it is so many images at most; the list is empty where nothing
    can be run.
    """
    leaves = pytree.tree_leaves((inputs, dict(kwargs)))
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    if any(tensor.is_meta for tensor in (*tensors, *program.tensors.values())):
        return []
    if program.batch != BATCH_HINT:
        return leaves
    batch = next(len(leaf) for leaf in tensors if leaf.dim())
    return [
        leaf[:most] if isinstance(leaf, Tensor) and leaf.dim() and len(leaf) == batch else leaf
        for leaf in leaves
    ]


@torch.no_grad()
def describe_difference(
    model: nn.Module, program: Program, inputs: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> str:
    """Say how a graph parts from its model on the example inputs, "" where it does not.

    Of a batch, two images are looked at. Nothing is said of models that part from themselves, being
    random or changed by a call, and of graphs that select among near equals.

    Args:
        model: In evaluation mode; it may be left changed.
        program: Its graph; the buffers that it writes may be left changed.
        inputs: The example arguments.
        kwargs: The example keyword arguments.
    """
    leaves = read_leaves(program, inputs, kwargs, most=2)
    if not leaves or any(operator_name(node) in _SELECTIONS for node in program.graph.nodes):
        return ""
    spec = pytree.tree_structure((inputs, dict(kwargs)))
    expected, got = call_model(model, leaves, spec), call_program(program, leaves)
    if expected is None or (got is not None and _measure(got, expected) <= 1):
        return ""
    again = call_model(model, leaves, spec, seed=1)
    if again is None or _measure(again, expected) > 1:
        return ""
    return _explain(model, leaves, spec, got)


def _explain(
    model: nn.Module, leaves: list[Any], spec: pytree.TreeSpec, got: list[Any] | None
) -> str:
    if got is None:
        return "the graph that was traced fails on the example inputs, where the model does not"
    if torch.backends.mha.get_fastpath_enabled():
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            slow = call_model(model, leaves, spec)
        finally:
            torch.backends.mha.set_fastpath_enabled(True)
        if slow is not None and _measure(got, slow) <= 1:
            return (
                "on the example inputs torch's fast path of transformers gives other numbers at "
                "padded positions than the model does in training, which the traced graph gives"
            )
    return (
        "on the example inputs the graph that was traced gives other numbers than the model, by "
        "more than rounding: torch.export read its code another way (an argument left out, a "
        "branch on tracing?); what is cut is the graph, and verify shows the difference"
    )


def call_model(
    model: nn.Module, leaves: list[Any], spec: pytree.TreeSpec, seed: int = 0
) -> list[Any] | None:
    """Return a model's results one after the other, None where it raises."""

    def call() -> Any:
        args, kwargs = pytree.tree_unflatten(leaves, spec)
        return pytree.tree_leaves(model(*args, **kwargs))

    return _try_to_call(call, seed)


def call_program(program: Program, leaves: Sequence[Any]) -> list[Any] | None:
    """Return a graph's results one after the other, None where it raises."""

    def call() -> Any:
        values = iter(leaves)
        given = {
            node: next(values) if node.op == "placeholder" else program.tensors[str(node.target)]
            for node in program.graph.nodes
            if node.op in ("placeholder", "get_attr")
        }
        interpreter = fx.Interpreter(nn.Module(), graph=program.graph)
        # oneDNN's recurrent layers write beyond a state of another batch; torch's own raise.
        recurrent = any(operator_name(node) in RECURRENT for node in program.graph.nodes)
        with torch.backends.mkldnn.flags(enabled=not recurrent):
            return interpreter.run(initial_env=given, enable_io_processing=False)

    return _try_to_call(call)


def _try_to_call(call: Callable[[], Any], seed: int = 0) -> list[Any] | None:
    """Return what a function gives, None where it raises; random numbers are the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            return list(call())
        except Exception:  # whatever the user's network raises: it refuses these inputs
            return None


def agree(got: list[Any] | None, expected: list[Any] | None, tolerance: float) -> bool:
    """Return whether results are equal but for rounding; None agrees with None alone.

    Args:
        got: Results one after the other.
        expected: Others.
        tolerance: Relative to the largest value of each.
    """
    if got is None or expected is None:
        return got is expected
    return len(got) == len(expected) and all(
        _differ(x, y, few=0.0) <= tolerance for x, y in zip(got, expected)
    )


def _measure(got: list[Any], expected: list[Any]) -> float:
    """Return the largest difference of results, of which up to one may be rounding."""
    if len(got) != len(expected):
        return float("inf")
    worst = 0.0
    for x, y in zip(got, expected):
        numbers = isinstance(y, Tensor) and (y.is_floating_point() or y.is_complex())
        most = torch.finfo(y.dtype).eps ** 0.5 if numbers else 1.0
        worst = max(worst, _differ(x, y, few=_FEW) / most)
    return worst


def _differ(x: Any, y: Any, few: float) -> float:
    """Return the difference of two results, relative to the largest value of the second.

    Of what is no number it is zero, where no more than so few differ, else infinite.
    """
    if not isinstance(y, Tensor) or not isinstance(x, Tensor):
        return 0.0 if type(x) is type(y) and x == y else float("inf")
    if x.shape != y.shape or x.dtype != y.dtype:
        return float("inf")
    if not y.numel():
        return 0.0
    if not (y.is_floating_point() or y.is_complex()):
        return 0.0 if float((x != y).double().mean()) <= few else float("inf")
    same = (x == y) | (x.isnan() & y.isnan())
    if bool(same.all()):
        return 0.0
    scale = y[y.isfinite()].abs()
    delta = (x - y)[~same].abs()
    worst = float(delta.max() / scale.max()) if scale.numel() else float("inf")
    return worst if worst == worst else float("inf")
