"""Re-estimate the batch-norm statistics of a pruned network."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..graph import BatchNorm, evaluation_mode


def recalibrate(module: nn.Module, batches: Iterable[tuple[Any, Any]]) -> int:
    """Replace running means and variances by their averages over the batches.

    Pruned channels change the inputs of every later normalization, so its statistics no longer fit;
    new ones give back much of the accuracy (Li et al. 2020, EagleEye, arXiv 2007.02491). Nothing
    else changes, dropout stays off, and every batch weighs the same. Returns the number of batches;
    0, and nothing happens, without batch norms.
    """
    norms = [m for m in module.modules() if isinstance(m, BatchNorm) and m.track_running_stats]
    if not norms:
        return 0
    first: Tensor = next(iter(module.parameters()))
    momenta = {norm: norm.momentum for norm in norms}
    count = 0
    try:
        with evaluation_mode(module), torch.no_grad():
            for inputs, _ in batches:
                if count == 0:
                    for norm in norms:
                        norm.reset_running_stats()
                        norm.momentum = None  # cumulative average
                        norm.training = True
                arguments = inputs if isinstance(inputs, tuple) else (inputs,)
                module(*(a.to(first.device) for a in arguments))
                count += 1
    finally:
        for norm, momentum in momenta.items():
            norm.momentum = momentum
    return count
