"""Verifies a plan: the cut network must equal the dense one with the same indices silenced."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from ..errors import PrunerWarning
from ..graph import copy_model, evaluation_mode, keep_model, named_tensors, unwrap_model
from ..structure import Network, Plan
from .apply import apply
from .masked_execution import MaskedInterpreter
from .steady_noise import steady_noise
from .topk_alignment import find_selections, record_selections


def verify(
    model: nn.Module, net: Network, plan: Plan, seed: int = 0, inputs: Sequence[Any] | None = None
) -> float:
    """Apply a plan, compare with the masked dense network and return the largest difference.

    Masked: the dense graph is run with every position of every value that belongs to a removed
    index set to zero, so that it neither writes nor is read; a dropped block's join gives what
    skips it; a normalization over a cut axis takes its statistics from the kept positions. The
    dense graph in turn is compared with the model. What is left is rounding. The difference is
    relative to the largest value of each output. Where rounding decides what a ``topk`` or ``sort``
    selects, the masked network selects what the pruned one does, and the graph is not compared with
    the model, which cannot be made to. What is drawn at random is the same number everywhere: noise
    of another shape would be other noise.

    Args:
        model: The model that was traced.
        net: The Network that `trace` made of it.
        plan: What to keep of it.
        seed: Of the normally distributed values that take the place of the example inputs.
        inputs: Other arguments, of another batch or image size for instance, nested ones taken
            apart as in ``net.inputs``; they are compared as they are.

    Raises:
        PrunerError: The network does not take inputs of these sizes.
    """
    model = unwrap_model(model)
    if inputs is None:
        generator = torch.Generator().manual_seed(seed)
        inputs = [_randomize(x, generator) for x in net.inputs]
    worst = compare_masked(apply(net, plan), net, plan, inputs)
    dense = MaskedInterpreter(net, Plan({}, {}))
    if find_selections(dense.graph):
        return worst
    with torch.no_grad(), steady_noise(dense.graph):
        with _left_alone(model):
            expected = call_flat(model, net, tuple(inputs))
        faithful = largest_difference(dense.run(*inputs, enable_io_processing=False), expected)
    return faithful if faithful > worst or faithful != faithful else worst


@torch.no_grad()
def compare_masked(small: fx.GraphModule, net: Network, plan: Plan, inputs: Sequence[Any]) -> float:
    """Return the largest difference between what a plan left and the masked dense network.

    See `verify`; the inputs are flat. Raises PrunerError where small refuses their sizes, or the
    positions that stay cannot be told at these.
    """
    oracle = MaskedInterpreter(net, plan)
    with steady_noise(oracle.graph):
        got = call_flat(small, net, tuple(inputs))
        if find_selections(oracle.graph):
            oracle.choices = record_selections(small, tuple(inputs))
        return largest_difference(got, oracle.run(*inputs, enable_io_processing=False))


@contextmanager
def _left_alone(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode as it is traced; all that it holds is restored."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with keep_model(model), evaluation_mode(model):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def call_flat(module: nn.Module, net: Network, inputs: tuple[Any, ...]) -> Any:
    """Call a module with flat inputs, nested as the traced model takes them."""
    args, kwargs = pytree.tree_unflatten(list(inputs), net.program.in_spec)
    return module(*args, **kwargs)


def largest_difference(got: Any, expected: Any) -> float:
    """Return the largest difference over all outputs, relative to the largest value of each.

    Of integers and truth values it is the share of those that differ. It is infinite where
    numbers or shapes of outputs differ, or their kinds (floating, complex, others), and NaN where
    the one is NaN and the other not, or nothing but NaN is there to compare. Of what is no tensor
    it is zero where equal, else infinite. It warns where there is nothing to compare.
    """
    worst = 0.0
    ours, theirs = pytree.tree_leaves(got), pytree.tree_leaves(expected)
    if len(ours) != len(theirs):
        return float("inf")
    for x, y in zip(ours, theirs):
        if isinstance(y, Tensor):
            delta = _compare(x, y.detach()) if isinstance(x, Tensor) else float("inf")
        else:
            delta = 0.0 if type(x) is type(y) and x == y else float("inf")
        worst = delta if delta > worst or delta != delta else worst
    if not any(y.numel() for y in theirs if isinstance(y, Tensor)):
        warnings.warn(
            "nothing was compared: the network returns no numbers on these inputs",
            PrunerWarning, stacklevel=3,
        )  # fmt: skip
    return worst


def _compare(x: Tensor, y: Tensor) -> float:
    """Return the relative difference of two tensors; see `largest_difference`."""
    x = x.detach().to(y.device)
    numbers = y.is_floating_point() or y.is_complex()
    same_kind = x.is_floating_point() == y.is_floating_point() and x.is_complex() == y.is_complex()
    if x.shape != y.shape or not same_kind:
        return float("inf")
    if not y.numel():
        return 0.0
    if not numbers:
        return float((x != y).double().mean())
    both = x.isnan() & y.isnan()
    if bool(both.all()):
        return float("nan")
    delta = torch.where(both | (x == y), torch.zeros((), dtype=y.dtype), x - y).abs()
    scale = y.abs()[y.isfinite()]
    return float(delta.max()) / max(1e-9, float(scale.max()) if scale.numel() else 0.0)


def silence_removed(model: nn.Module, net: Network, plan: Plan) -> nn.Module:
    """Return a copy of a model with the removed indices set to zero in every tensor."""
    masked = copy_model(unwrap_model(model))
    tensors = named_tensors(masked, tied=True)
    with torch.no_grad():
        for name, kept in plan.keep.items():
            dim = net.dims[name]
            gone = torch.ones(dim.size, dtype=torch.bool)
            gone[list(kept)] = False
            for slot in dim.slots:
                if slot.role == "other":  # neither writes nor reads: it may be a divisor
                    continue
                owner = torch.from_numpy(slot.owner)
                positions = torch.nonzero((owner >= 0) & gone[owner.clamp(min=0)]).flatten()
                tensors[slot.tensor].index_fill_(slot.axis, positions, 0.0)
    return masked


def _randomize(x: Any, generator: torch.Generator) -> Any:
    """Return normally distributed values in the place of a tensor of real or complex numbers."""
    if isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex()):
        return torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
    return x
