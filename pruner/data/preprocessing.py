"""From an image file to pixels, and the training augmentations; PIL and torch, nothing else.

Images are uint8 [3, H, W] up to the last step, `normalize`, which makes floats of a whole batch.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import PrunerError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
SMALL = 64  # images up to this side are augmented as CIFAR is, larger ones as ImageNet is
_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


@dataclass(frozen=True)
class Preprocessing:
    """What happens to an image before the network sees it.

    size
        Height and width of the network's input.
    mean, std
        Of red, green and blue, in units of the full range 0..1; ImageNet's by default.
    crop
        Evaluation of large images: the shorter side is resized to the input's side / crop, then the
        centre is cut out (0.875: 256 and 224). Small images (input up to 64) are not cropped.
    interpolation
        ``"bilinear"`` or ``"bicubic"``, both with antialiasing.
    """

    size: tuple[int, int]
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    crop: float = 0.875
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise PrunerError(f"image size: expected (height, width), got {self.size!r}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise PrunerError(
                "mean and std: expected three numbers each, std above 0, "
                f"got {self.mean!r} and {self.std!r}"
            )
        if not 0 < self.crop <= 1:
            raise PrunerError(f"crop: expected a number in (0, 1], got {self.crop!r}")
        if self.interpolation not in _FILTERS:
            raise PrunerError(
                f"interpolation: expected one of {sorted(_FILTERS)}, got {self.interpolation!r}"
            )

    @property
    def small(self) -> bool:
        """Whether the input is CIFAR-like: cached in memory, augmented by shifts and flips."""
        return max(self.size) <= SMALL


def read_for_evaluation(path: Path, how: Preprocessing) -> Tensor:
    """Resize the shorter side, cut out the centre: uint8 [3, H, W]."""
    height, width = how.size
    image = _read(path)
    if image.size != (width, height) or not how.small:
        crop = 1.0 if how.small else how.crop
        scale = max(height / image.height, width / image.width) / crop
        # As torchvision does it, to meet published accuracies: lengths are cut, not rounded.
        resized = (
            max(width, int(image.width * scale + 1e-6)),
            max(height, int(image.height * scale + 1e-6)),
        )
        image = image.resize(resized, _FILTERS[how.interpolation])
        left = round((image.width - width) / 2)
        top = round((image.height - height) / 2)
        image = image.crop((left, top, left + width, top + height))
    return _pixels(image)


def read_for_training(path: Path, how: Preprocessing, dice: random.Random) -> Tensor:
    """A random part of 8-100% of the area (Szegedy et al. 2015), flipped half of the time."""
    image = _read(path, how.size)
    height, width = how.size
    box = _random_box(image.width, image.height, dice)
    image = image.resize((width, height), _FILTERS[how.interpolation], box=box)
    if dice.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return _pixels(image)


def shift_and_flip(images: Tensor, dice: torch.Generator, padding: int = 4) -> Tensor:
    """Random shifts by up to padding pixels (black beyond the edge) and flips: uint8 [n, 3, H, W].

    The CIFAR augmentation of He et al. 2015. Whole batches at once: one gather, no loop.
    """
    count, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, (padding,) * 4)
    shift = torch.randint(0, 2 * padding + 1, (2, count, 1), generator=dice)
    flip = torch.rand(count, 1, generator=dice) < 0.5
    rows = shift[0] + torch.arange(height)
    columns = torch.arange(width).expand(count, -1)
    columns = shift[1] + torch.where(flip, width - 1 - columns, columns)
    every = torch.arange(count)
    # Advanced indices apart put their axes first: [n, H, W, 3].
    picked = padded[every[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)


def normalize(images: Tensor, how: Preprocessing) -> Tensor:
    """uint8 [n, 3, H, W] to float32: (pixel / 255 - mean) / std."""
    mean = torch.tensor(how.mean).view(1, 3, 1, 1) * 255
    std = torch.tensor(how.std).view(1, 3, 1, 1) * 255
    return images.float().sub_(mean).div_(std).contiguous()


def _read(path: Path, about: tuple[int, int] | None = None) -> Image.Image:
    """Decode to RGB; a JPEG that is much larger than about is decoded at a half, quarter..."""
    try:
        with Image.open(path) as image:
            if about is not None:
                # Never below twice the target, so that the resize still decides the quality.
                image.draft("RGB", (2 * about[1], 2 * about[0]))
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PrunerError(
            f"{path}: not a readable image ({error}); replace or remove it"
        ) from error


def _pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image, np.uint8)).permute(2, 0, 1).contiguous()


def _random_box(width: int, height: int, dice: random.Random) -> tuple[int, int, int, int]:
    area = width * height
    for _ in range(10):
        target = area * dice.uniform(0.08, 1.0)
        ratio = math.exp(dice.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = dice.randint(0, width - w), dice.randint(0, height - h)
            return left, top, left + w, top + h
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side
