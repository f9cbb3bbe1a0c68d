"""Running a network's batches without leaving a trace in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def move_to_device(value: Any, device: torch.device) -> Any:
    """Move a tensor, or the tensors in a tuple, list or dict, to a device."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, (tuple, list)):
        return type(value)(move_to_device(v, device) for v in value)
    if isinstance(value, dict):
        return {k: move_to_device(v, device) for k, v in value.items()}
    return value


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Evaluation mode and gradients on, and everything as it was afterwards."""
    modes = {m: m.training for m in module.modules()}
    flags = {p: p.requires_grad for p in module.parameters()}
    module.eval()
    for parameter in flags:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for m, training in modes.items():
            m.training = training
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)
