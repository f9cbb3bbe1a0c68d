"""A tiny segmenter with a backbone as torchvision has it, and pictures of squares to segment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

SIZE, CLASSES = 16, 3
MODEL = "tiny_segmenter:make"
SOURCE = """
from tests.pruner.segments import Segmenter


def make():
    return Segmenter()
"""


class Backbone(nn.Module):
    """Features of half the size, and of a quarter."""

    def __init__(self) -> None:
        super().__init__()
        self.out_channels = 12
        self.stem = nn.Conv2d(3, 12, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(12)
        self.conv1 = nn.Conv2d(12, 24, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.conv2 = nn.Conv2d(24, 12, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(12)
        self.down = nn.Conv2d(12, 16, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = functional.relu(self.bn(self.stem(x)))
        y = functional.relu(self.bn1(self.conv1(x)))
        x = functional.relu(x + self.bn2(self.conv2(y)))
        return {"high": x, "low": functional.relu(self.down(x))}


class Segmenter(nn.Module):
    """Class scores of every pixel under ``out``, in training a second one under ``aux``."""

    def __init__(self) -> None:
        super().__init__()
        self.default_cfg = {"input_size": (3, SIZE, SIZE)}
        self.backbone = Backbone()
        self.high = nn.Conv2d(self.backbone.out_channels, CLASSES, 1)
        self.low = nn.Conv2d(16, CLASSES, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        found = self.backbone(x)
        assert self.backbone.out_channels == 12
        low = functional.interpolate(self.low(found["low"]), scale_factor=2.0)
        return {"out": functional.interpolate(self.high(found["high"]) + low, x.shape[-2:])}


def draw_pair(dice: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A picture uint8 [SIZE, SIZE, 3] with a red and a blue square, and its classes."""
    image = dice.integers(0, 60, (SIZE, SIZE, 3), dtype=np.uint8)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    for kind, channel in ((1, 0), (2, 2)):
        top, left = dice.integers(0, SIZE - 6, 2)
        image[top : top + 6, left : left + 6] = 20
        image[top : top + 6, left : left + 6, channel] = 220
        mask[top : top + 6, left : left + 6] = kind
    mask[0, 0] = 255
    return image, mask


def write_masks(folder: Path, train: int = 24, test: int = 8) -> Path:
    """Write ``train|test/images|masks/*.png``."""
    dice = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
        for number in range(count):
            image, mask = draw_pair(dice)
            Image.fromarray(image).save(folder / split / "images" / f"{number:02}.png")
            Image.fromarray(mask).save(folder / split / "masks" / f"{number:02}.png")
    return folder


def draw_tensors(count: int, seed: int = 1) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Pairs (image [3, SIZE, SIZE], mask [SIZE, SIZE])."""
    dice = np.random.default_rng(seed)
    pairs = [draw_pair(dice) for _ in range(count)]
    return [
        (
            torch.from_numpy(image).permute(2, 0, 1).float() / 128 - 1,
            torch.from_numpy(mask).long(),
        )
        for image, mask in pairs
    ]
