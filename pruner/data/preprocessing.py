"""Resize, augment and normalize images, with PIL and torch alone.

Images are uint8 [C, H, W] up to the last step, `normalize`, which makes floats of a whole batch; C
is 3, or 1 where the network reads grey images.
"""

import math
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import PrunerError
from ..utils import wrong_value
from .decoding import decode_image

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
SMALL = 64  # images up to this side are augmented as CIFAR is, larger ones as ImageNet is
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Preprocessing:
    """What happens to an image before the network sees it.

    Attributes:
        size: Height and width of the network's input.
        mean: Of red, green and blue, in units of the full range 0..1; one number: grey images.
        std: Of the same channels, in the same units.
        crop: Evaluation of large images: the shorter side is resized to the input's side / crop,
            then the centre is cut out (0.875: 256 and 224). Small images (input up to 64) are not
            cropped.
        interpolation: ``"bilinear"`` or ``"bicubic"``, both with antialiasing.
    """

    size: tuple[int, int]
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    crop: float = 0.875
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise wrong_value("image size", "(height, width)", self.size)
        if len(self.mean) not in (1, 3) or len(self.std) != len(self.mean) or min(self.std) <= 0:
            raise PrunerError(
                "mean and std: expected three numbers each (or one, for grey), std above 0, "
                f"got {self.mean!r} and {self.std!r}"
            )
        if not 0 < self.crop <= 1:
            raise wrong_value("crop", "a number in (0, 1]", self.crop)
        if self.interpolation not in _FILTERS:
            raise wrong_value("interpolation", f"one of {sorted(_FILTERS)}", self.interpolation)

    @property
    def channels(self) -> int:
        """Of the network's input: 3, or 1 for grey images."""
        return len(self.mean)

    @property
    def resample(self) -> Image.Resampling:
        """Pillow's filter of the interpolation."""
        return _FILTERS[self.interpolation]

    @property
    def small(self) -> bool:
        """Whether the input is CIFAR-like: cached in memory, augmented by shifts and flips."""
        return max(self.size) <= SMALL


def read_for_evaluation(path: Path, preprocessing: Preprocessing) -> Tensor:
    """Read an image, resize its shorter side and crop the centre: uint8 [C, H, W]."""
    return show_for_evaluation(decode_image(path), preprocessing)


def show_for_evaluation(image: Image.Image, preprocessing: Preprocessing) -> Tensor:
    """Resize an image's shorter side and crop the centre: uint8 [C, H, W]."""
    height, width = preprocessing.size
    if image.size != (width, height) or not preprocessing.small:
        crop = 1.0 if preprocessing.small else preprocessing.crop
        scale = max(height / image.height, width / image.width) / crop
        # As torchvision does it, to meet published accuracies: lengths are cut, not rounded.
        resized = (
            max(width, int(image.width * scale + 1e-6)),
            max(height, int(image.height * scale + 1e-6)),
        )
        image = image.resize(resized, preprocessing.resample)
        left = round((image.width - width) / 2)
        top = round((image.height - height) / 2)
        image = image.crop((left, top, left + width, top + height))
    return _to_tensor(image, preprocessing.channels)


def read_for_training(path: Path, preprocessing: Preprocessing, rng: random.Random) -> Tensor:
    """Read a random 8-100% of an image's area (Szegedy et al. 2015), flipped half of the time."""
    return show_for_training(decode_image(path, preprocessing.size), preprocessing, rng)


def show_for_training(
    image: Image.Image, preprocessing: Preprocessing, rng: random.Random
) -> Tensor:
    """Show a random 8-100% of an image's area, flipped half of the time: uint8 [C, H, W]."""
    height, width = preprocessing.size
    box = _draw_box(image.width, image.height, rng)
    image = image.resize((width, height), preprocessing.resample, box=box)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return _to_tensor(image, preprocessing.channels)


def show_image(
    image: Image.Image, preprocessing: Preprocessing, rng: random.Random | None
) -> Tensor:
    """Return one image as the network sees it, float32 [C, H, W]; changed at random by rng."""
    if rng is None or preprocessing.small:
        pixels = show_for_evaluation(image, preprocessing)
    else:
        pixels = show_for_training(image, preprocessing, rng)
    if rng is not None and preprocessing.small:
        dice = torch.Generator().manual_seed(rng.getrandbits(62))
        pixels = shift_and_flip(pixels[None], dice)[0]
    return normalize(pixels[None], preprocessing)[0]


def shift_and_flip(images: Tensor, rng: torch.Generator, padding: int = 4) -> Tensor:
    """Shift images by up to padding pixels, black beyond the edge, and flip half of them.

    The CIFAR augmentation of He et al. 2015 in one gather, of uint8 [n, 3, H, W].
    """
    count, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, (padding,) * 4)
    shift = torch.randint(0, 2 * padding + 1, (2, count, 1), generator=rng)
    flip = torch.rand(count, 1, generator=rng) < 0.5
    rows = shift[0] + torch.arange(height)
    columns = torch.arange(width).expand(count, -1)
    columns = shift[1] + torch.where(flip, width - 1 - columns, columns)
    every = torch.arange(count)
    # Advanced inrngs around a slice put their axes first: [n, H, W, 3].
    picked = padded[every[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)


def normalize(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return (pixel / 255 - mean) / std of uint8 [n, C, H, W], as float32."""
    mean = torch.tensor(preprocessing.mean).view(1, -1, 1, 1) * 255
    std = torch.tensor(preprocessing.std).view(1, -1, 1, 1) * 255
    return images.float().sub_(mean).div_(std).contiguous()


def _to_tensor(image: Image.Image, channels: int) -> Tensor:
    mode = "RGB" if channels == 3 else "L"
    values = np.array(image if image.mode == mode else image.convert(mode), np.uint8)
    values = values[..., None] if values.ndim == 2 else values
    return torch.from_numpy(values).permute(2, 0, 1).contiguous()


def _draw_box(width: int, height: int, rng: random.Random) -> tuple[int, int, int, int]:
    """Draw (left, top, right, bottom) of 8-100% of the area and an aspect from 3:4 to 4:3."""
    area = width * height
    for _ in range(10):
        target = area * rng.uniform(0.08, 1.0)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = rng.randint(0, width - w), rng.randint(0, height - h)
            return left, top, left + w, top + h
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side
