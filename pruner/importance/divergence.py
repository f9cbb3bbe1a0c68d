"""Divergence of a pruned network's outputs from the dense network's, as the task measures it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..data import Batch, count_samples
from ..errors import PrunerError
from ..graph import evaluation_mode
from ..reconstruction import repair
from ..structure import Network, Plan
from ..surgery import apply
from ..tasks import NetworkCalls, Task

MEASURED_ON = 128
"""Samples that every cut is measured on: what costs time, and tells a divergence well enough."""


def split_holdout(batches: list[Batch]) -> tuple[list[Batch], list[Batch]]:
    """Split batches into those to fit on and, of every four the last, those to measure on.

    The latter end at `MEASURED_ON` samples. Of too few batches both parts are all.
    """
    fits: list[Batch] = []
    held_out: list[Batch] = []
    samples = 0
    for k, batch in enumerate(batches):
        if k % 4 == 3 and samples < MEASURED_ON:
            held_out.append(batch)
            samples += count_samples(batch[0])
        else:
            fits.append(batch)
    return fits, held_out or batches


@torch.no_grad()
def run_batches(
    module: nn.Module, batches: Iterable[Batch], task: Task | None = None
) -> Iterator[Any]:
    """Compute a network's outputs in evaluation mode, batch by batch."""
    task = task or Task()
    with evaluation_mode(module):
        for inputs, _ in batches:
            yield task.forward(module, inputs)


def mean_divergence(found: Iterable[Any], dense: Sequence[Any], task: Task | None = None) -> float:
    """Average the divergence of batches' outputs from the dense network's over predictions."""
    task = task or Task()
    total, count = 0.0, 0
    for outputs, target in zip(found, dense, strict=True):
        part = task.divergence(_to_double(outputs), _to_double(target))
        total += float(part.value)
        count += part.count
    if not count:
        raise PrunerError(f"task {task.name!r} compared no prediction: the batches are empty")
    return total / count


def _to_double(outputs: Any) -> Any:
    return pytree.tree_map_only(
        Tensor, lambda x: x.double() if x.is_floating_point() else x, outputs
    )


def structure_divergence(
    net: Network,
    plan: Plan,
    fits: Iterable[Batch] | NetworkCalls,
    measured: list[Batch],
    dense: Sequence[Any],
    *,
    task: Task | None = None,
    layers: int | None = None,
    then: Callable[[nn.Module], None] | None = None,
) -> float:
    """Cut a network, repair it, and measure its divergence from the dense one.

    Args:
        net: The dense network.
        plan: What to cut.
        fits: Samples to repair on.
        measured: Samples to measure on.
        dense: The dense network's outputs of these.
        task: Calls the networks and compares their outputs (None: by the outputs' kind).
        layers: How many layers to repair; see `pruner.repair`.
        then: What else is to be done to the cut network before it is measured.
    """
    small = apply(net, plan)
    repair(small, net, plan, fits, layers=layers, task=task, check=False)
    if then is not None:
        then(small)
    return mean_divergence(run_batches(small, measured, task), dense, task)
