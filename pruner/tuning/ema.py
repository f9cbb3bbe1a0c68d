"""Exponential moving average of a network's weights and batch-norm statistics."""

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def build_average(module: nn.Module, decay: float) -> AveragedModel:
    """Start an average from a network's present state.

    `AveragedModel.update_parameters` after step t (from 0) keeps min(decay, (1 + t) / (10 + t)) of
    it, so that the start is forgotten. Integers (counters) are copied, and so are infinities.
    """

    @torch.no_grad()
    def update(kept: Iterable[Tensor], new: Iterable[Tensor], _: Tensor | int) -> None:
        step = int(average.n_averaged) - 1  # on the CPU, unlike the argument
        share = 1 - min(decay, (1 + step) / (10 + step))
        for old, value in zip(kept, new):
            mean = old.lerp(value, share) if value.is_floating_point() else value
            old.copy_(torch.where(value.isinf(), value, mean))

    average = AveragedModel(module, multi_avg_fn=update, use_buffers=True)
    average.n_averaged.fill_(1)  # else the first update would copy the weights
    return average


@contextmanager
def use_average(module: nn.Module, average: AveragedModel | None) -> Iterator[None]:
    """Give a network its average's state for a while."""
    if average is None:
        yield
        return
    trained = copy.deepcopy(module.state_dict())
    module.load_state_dict(average.module.state_dict())
    try:
        yield
    finally:
        module.load_state_dict(trained)
