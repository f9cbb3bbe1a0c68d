"""Example inputs of a model: arguments of the right names and shapes, with random values."""

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


def make_tensor_example(shape: tuple[int, ...]) -> Example:
    """Make the one tensor that most models take."""
    return Example((draw_noise(shape),))


def make_pair_example(shape: tuple[int, ...]) -> Example:
    """Make two different images, for models that compare them (optical flow)."""
    return Example((draw_noise(shape), draw_noise(shape, 1)))


def make_images_example(shape: tuple[int, ...]) -> Example:
    """Make a list of images with values in (0, 1), as torchvision's detectors take them."""
    return Example((list(draw_noise(shape).sigmoid().unbind(0)),))


def draw_noise(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Draw standard normal numbers, the same for the same seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
