"""The CIFAR-10 ResNets of He et al. (arXiv 1512.03385, section 4.2), with parameter-free shortcuts.

Where the resolution halves and the width doubles, the shortcut takes every second pixel and pads
the new channels with zeros ("option A"). Parameter names are those of torchvision's ResNets, but
for the last layer, which is called ``linear``.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

# What the released weights were trained with; read by pruner.models.
PREPROCESSING: dict[str, Any] = {
    "input_size": (3, 32, 32),
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "crop_pct": 1.0,
}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and their shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.padding = channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, in_channels, H, W] to [n, channels, H / stride, W / stride]."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.padding:
            low = self.padding // 2
            x = x[:, :, :: self.stride, :: self.stride]
            x = functional.pad(x, (0, 0, 0, 0, low, self.padding - low))
        return functional.relu(y + x)


class CifarResNet(nn.Module):
    """Three stages of 16, 32 and 64 channels on 32x32 images: depth = 6 * blocks + 2."""

    def __init__(self, blocks: int, classes: int = 10) -> None:
        super().__init__()
        self.default_cfg = PREPROCESSING
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._build_stage(16, 16, blocks, stride=1)
        self.layer2 = self._build_stage(16, 32, blocks, stride=2)
        self.layer3 = self._build_stage(32, 64, blocks, stride=2)
        self.linear = nn.Linear(64, classes)

    @staticmethod
    def _build_stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
        first = BasicBlock(in_channels, channels, stride)
        return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        """Map images [n, 3, 32, 32] to logits [n, classes]."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1))


def resnet20(classes: int = 10) -> CifarResNet:
    """Build ResNet-20 (0.27 million parameters)."""
    return CifarResNet(3, classes)


def resnet56(classes: int = 10) -> CifarResNet:
    """Build ResNet-56 (0.85 million parameters)."""
    return CifarResNet(9, classes)
