"""A hand-traced network and hand-made image folders that the tests share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from pruner.structure.network import Dim, Slot

HIDDEN, CLASSES = 4, 3


class Small(nn.Module):
    """conv, batch norm, relu (the stem writes the stream), one residual branch, pool, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, HIDDEN, 3, padding=1, bias=False)
        self.stem_bn = nn.BatchNorm2d(HIDDEN)
        self.conv1 = nn.Conv2d(HIDDEN, 6, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, HIDDEN, 1)  # a bias and no batch norm
        self.linear = nn.Linear(HIDDEN * 4, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem_bn(self.stem(x)))
        x = x + self.conv2(torch.relu(self.bn1(self.conv1(x))))
        return self.linear(nn.functional.adaptive_avg_pool2d(x, 2).flatten(1))


@dataclass(frozen=True)
class HandTraced:
    """What `pruner.trace` would say of `Small`."""

    module: nn.Module
    dims: dict[str, Dim]


def hand_traced(seed: int = 0) -> HandTraced:
    """A Small network with random weights and statistics, in evaluation mode, and its Dims."""
    torch.manual_seed(seed)
    module = Small().double().eval()
    for norm in (module.stem_bn, module.bn1):
        nn.init.normal_(norm.weight, 1.0, 0.3)
        nn.init.normal_(norm.bias, 0.0, 0.3)
        nn.init.normal_(norm.running_mean, 0.0, 0.3)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    stream, inner = np.arange(HIDDEN), np.arange(6)

    def norm_slots(name: str, owner: np.ndarray, cell: str, blocks: tuple[str, ...]) -> list[Slot]:
        kinds = ("weight", "bias", "running_mean", "running_var")
        return [Slot(f"{name}.{kind}", 0, owner, "norm", cell, blocks) for kind in kinds]

    dims = {
        "stream": Dim(
            "stream",
            HIDDEN,
            1,
            (
                Slot("stem.weight", 0, stream, "out", "stem", ()),
                *norm_slots("stem_bn", stream, "stem", ()),
                Slot("conv1.weight", 1, stream, "in", "conv1", ("branch",)),
                Slot("conv2.weight", 0, stream, "out", "conv2", ("branch",)),
                Slot("conv2.bias", 0, stream, "out", "conv2", ("branch",)),
                # Each channel feeds four inputs of the linear layer: 2 x 2 places.
                Slot("linear.weight", 1, np.repeat(stream, 4), "in", "linear", ()),
            ),
        ),
        "inner": Dim(
            "inner",
            6,
            1,
            (
                Slot("conv1.weight", 0, inner, "out", "conv1", ("branch",)),
                *norm_slots("bn1", inner, "conv1", ("branch",)),
                Slot("conv2.weight", 1, inner, "in", "conv2", ("branch",)),
            ),
        ),
    }
    return HandTraced(module, dims)


def random_batches(count: int = 3, size: int = 5) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Double-precision images and labels."""
    dice = torch.Generator().manual_seed(7)
    return [
        (
            torch.randn(size, 3, 8, 8, generator=dice, dtype=torch.float64),
            torch.randint(0, CLASSES, (size,), generator=dice),
        )
        for _ in range(count)
    ]


def image_folder(
    root: Path,
    *,
    splits: tuple[str, ...] = ("train", "test"),
    classes: tuple[str, ...] = ("ant", "bee", "cat"),
    images: int = 12,
    side: tuple[int, int] = (8, 8),
) -> Path:
    """PNG images, each class of its own colour with noise: something that can be learned."""
    dice = np.random.default_rng(0)
    for split in splits:
        for label, name in enumerate(classes):
            folder = root / split / name
            folder.mkdir(parents=True)
            for k in range(images):
                pixels = dice.integers(0, 120, (side[1], side[0], 3))
                pixels[..., label % 3] += 120
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{k:03}.png")
    return root
