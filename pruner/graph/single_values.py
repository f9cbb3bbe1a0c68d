"""Batch norms in training that see one value a channel: of one value there is no variance."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ..errors import PrunerWarning
from .torch_internals import BatchNorm


@contextmanager
def allow_single_values(module: nn.Module) -> Iterator[None]:
    """Let batch norms that see one value a channel use their running statistics meanwhile.

    That is a batch of one sample behind a global pooling, be it the last one of an epoch; torch
    refuses it. A norm that keeps no statistics is left to do so. It is said once.
    """
    eased: set[nn.Module] = set()
    told = False

    def ease(norm: Any, values: tuple[Any, ...]) -> None:
        nonlocal told
        x = values[0]
        if norm.training and norm.track_running_stats and x.numel() == x.shape[1]:
            eased.add(norm)
            norm.training = False
            if not told:
                told = True
                warnings.warn(
                    "a batch norm saw one value a channel, of which there is no variance: its "
                    "running statistics were used instead. Larger batches are better (--batch)",
                    PrunerWarning,
                    stacklevel=2,
                )

    def restore(norm: Any, values: tuple[Any, ...], result: Any) -> None:
        if norm in eased:
            eased.remove(norm)
            norm.training = True

    norms = [one for one in module.modules() if isinstance(one, BatchNorm)]
    hooks = [norm.register_forward_pre_hook(ease) for norm in norms]
    hooks += [norm.register_forward_hook(restore, always_call=True) for norm in norms]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
