"""Average: an exponential moving average of a network's weights and statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Keeps a running average of every floating-point tensor of module's state.

    decay is what a step keeps; early steps keep less, (1 + t) / (10 + t), so that the start is
    forgotten. Other tensors (counters) are copied.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take in the state after optimizer step number step (from 0)."""
        keep = min(self.decay, (1 + step) / (10 + step))
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value, 1 - keep)
            else:
                self.state[name].copy_(value)

    @torch.no_grad()
    def swap(self, module: nn.Module) -> None:
        """Exchange the average and the network's state."""
        for name, value in module.state_dict().items():
            kept = value.clone()
            value.copy_(self.state[name])
            self.state[name].copy_(kept)

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """Within this context the network has the average's state."""
        self.swap(module)
        try:
            yield
        finally:
            self.swap(module)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a saved state."""
        for name, value in self.state.items():
            value.copy_(state[name])
