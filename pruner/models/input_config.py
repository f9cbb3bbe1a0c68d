"""InputPreset: size and normalization of a model's main input."""

from dataclasses import dataclass

from ..data import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True)
class InputPreset:
    """What a model's main input looks like, as far as the model says it.

    Attributes:
        input_size: (channels, height, width), or a text's length; None where it is not said.
        mean: Of each channel, in units of 0..1, subtracted from the image.
        std: Of each channel, by which the difference is divided.
        crop: Share of the resized image's side that the evaluation's central crop keeps.
        interpolation: ``"bilinear"`` or ``"bicubic"``.
    """

    input_size: tuple[int, ...] | None = None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    crop: float = 0.875
    interpolation: str = "bilinear"
