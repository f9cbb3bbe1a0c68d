"""Region selection for deblurring: which patches of an image are worth the expensive network.

The image is cut into overlapping patches, a small mobile network tells blurred ones from sharp
ones, and its scores are put back as a map.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class InvertedResidual(nn.Module):
    """1x1 up, depthwise 3x3, squeeze and excitation, 1x1 down."""

    def __init__(self, inputs: int, outputs: int, stride: int, ratio: int = 3) -> None:
        super().__init__()
        hidden = inputs * ratio
        self.residual = stride == 1 and inputs == outputs
        self.up = nn.Sequential(
            nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.Hardswish()
        )
        self.depthwise = nn.Sequential(
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.Hardswish(),
        )
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(hidden, hidden // 4, 1), nn.ReLU(),
            nn.Conv2d(hidden // 4, hidden, 1), nn.Hardsigmoid(),
        )  # fmt: skip
        self.down = nn.Sequential(
            nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, with a skip connection where the shapes allow."""
        y = self.depthwise(self.up(x))
        y = self.down(y * self.squeeze(y))
        return x + y if self.residual else y


class RegionSelector(nn.Module):
    """The probability of blur, for every patch of an image."""

    def __init__(self, width: int = 16, patch: int = 16, stride: int = 8) -> None:
        super().__init__()
        self.patch, self.stride = patch, stride
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.Hardswish()
        )
        self.blocks = nn.Sequential(
            InvertedResidual(width, width, 1), InvertedResidual(width, 2 * width, 2),
            InvertedResidual(2 * width, 2 * width, 1), InvertedResidual(2 * width, 3 * width, 2),
        )  # fmt: skip
        self.head = nn.Sequential(
            nn.Conv2d(3 * width, 6 * width, 1), nn.BatchNorm2d(6 * width), nn.Hardswish()
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(6 * width, 1))

    def forward(self, image: Tensor) -> Tensor:
        """[b, 3, h, w] to [b, rows, columns]."""
        batch, channels = image.shape[:2]
        rows = (image.shape[2] - self.patch) // self.stride + 1
        columns = (image.shape[3] - self.patch) // self.stride + 1
        patches = functional.unfold(image, self.patch, stride=self.stride).transpose(1, 2)
        patches = patches.reshape(-1, channels, self.patch, self.patch)
        x = self.head(self.blocks(self.stem(patches)))
        x = functional.adaptive_avg_pool2d(x, 1).flatten(1)
        return torch.sigmoid(self.classifier(x)).reshape(batch, rows, columns)


def make() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Make the network with random weights, and a batch of images."""
    torch.manual_seed(0)
    return RegionSelector(), (torch.randn(2, 3, 32, 32),)
