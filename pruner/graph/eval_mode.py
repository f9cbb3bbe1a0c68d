"""Evaluation mode for a while, and batches on a network's device."""

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


def find_device(module: nn.Module) -> torch.device:
    """Return the device of a module's first parameter; of one that has none, the CPU."""
    return next((p.device for p in module.parameters()), torch.device("cpu"))


@contextmanager
def evaluation_mode(*modules: nn.Module, gradients: bool = False) -> Iterator[None]:
    """Put modules into evaluation mode, and every submodule back into its own mode afterwards.

    With ``gradients`` all parameters require gradients meanwhile, frozen ones too.
    """
    modes = {m: m.training for module in modules for m in module.modules()}
    flags = {p: p.requires_grad for module in modules for p in module.parameters() if gradients}
    for module in modules:
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
