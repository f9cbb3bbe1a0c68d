"""How an image becomes an input of a model."""

from __future__ import annotations

from dataclasses import dataclass

from ..data import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True)
class InputPreset:
    """(channels, height, width) of the input, and (image - mean) / std.

    crop is the share of the resized image that the evaluation's central crop keeps. input_size is
    None where the model does not say it.
    """

    input_size: tuple[int, ...] | None = None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    crop: float = 0.875
    interpolation: str = "bilinear"
