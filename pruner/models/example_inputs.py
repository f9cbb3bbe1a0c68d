"""What a model is called with when it is looked at: arguments of the right names and shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Example:
    """Arguments for one call, random but the same every time."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


MakeExample = Callable[[tuple[int, ...]], Example]
"""From the shape of the main input, batch first, to the arguments."""


def one_tensor(shape: tuple[int, ...]) -> Example:
    """What most models take."""
    return Example((noise(shape),))


def two_tensors(shape: tuple[int, ...]) -> Example:
    """Two images, for what compares them (optical flow)."""
    return Example((noise(shape), noise(shape, 1)))


def list_of_images(shape: tuple[int, ...]) -> Example:
    """One tensor an image, each of its own size, for torchvision's detectors: values 0 to 1."""
    return Example((list(noise(shape).sigmoid().unbind(0)),))


def noise(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Normally distributed numbers, the same for the same seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
