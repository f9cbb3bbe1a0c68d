"""Re-estimate the batch-norm statistics of a pruned network."""

from collections.abc import Iterable

import torch
from torch import nn

from ..data import Batch, require_samples
from ..graph import BatchNorm, allow_single_values, evaluation_mode
from ..tasks import Task


def recalibrate(module: nn.Module, batches: Iterable[Batch], task: Task | None = None) -> int:
    """Replace running means and variances by their averages over the batches.

    A norm that never saw more than one value a channel keeps its statistics.

    Pruned channels change the inputs of every later normalization, so its statistics no longer fit;
    new ones give back much of what was lost (Li et al. 2020, EagleEye, arXiv 2007.02491). Nothing
    else changes, dropout stays off, and every batch weighs the same. The task calls the network
    (None: with the inputs as its arguments). Returns the number of batches;
    0, and nothing happens, without batch norms.
    """
    norms = [m for m in module.modules() if isinstance(m, BatchNorm) and m.track_running_stats]
    if not norms:
        return 0
    task = task or Task()
    momenta = {norm: norm.momentum for norm in norms}
    before = {norm: [b.clone() for b in norm.buffers()] for norm in norms}
    count = 0
    try:
        with evaluation_mode(module), allow_single_values(module), torch.no_grad():
            for inputs, targets in batches:
                require_samples((inputs, targets), f"recalibrate: batch {count + 1}")
                if count == 0:
                    for norm in norms:
                        norm.reset_running_stats()
                        norm.momentum = None  # cumulative average
                        norm.training = True
                task.forward(module, inputs)
                count += 1
    finally:
        for norm, momentum in momenta.items():
            norm.momentum = momentum
            if not norm.num_batches_tracked:  # it saw single values alone
                for buffer, value in zip(norm.buffers(), before[norm], strict=True):
                    buffer.copy_(value)
    return count
