"""Depth completion (ReDC): sparse depth and an image to dense depth.

Two encoders meet in a decoder with skip connections; the coarse depth is refined once by a
deformable convolution whose offsets and weights the decoder's features give.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import DeformConv2d


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, batch norm, leaky ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.2, inplace=True),
    )


class Residual(nn.Module):
    """The basic block of a ResNet, with a projection where it changes the width."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv(inputs, outputs, stride)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.skip = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return branch plus skip connection."""
        return torch.relu(self.bn2(self.conv2(self.conv1(x))) + self.skip(x))


class Up(nn.Module):
    """Doubles the size, and takes the skip connection in."""

    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.Sequential(
            nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, output_padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )
        self.conv = conv(outputs + skip, outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Return [b, outputs, h, w] of the skip connection's height and width."""
        x = self.up(x)[..., : skip.shape[-2], : skip.shape[-1]]
        return self.conv(torch.cat([x, skip], dim=1))


class Refinement(nn.Module):
    """One deformable convolution over depth and features, which adds a correction."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.offset = nn.Conv2d(width, 18, 3, padding=1)
        self.mask = nn.Conv2d(width, 9, 3, padding=1)
        self.embed = conv(width + 1, width)
        self.deform = DeformConv2d(width, width, 3, padding=1)
        self.out = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, depth: Tensor, features: Tensor, sparse: Tensor) -> Tensor:
        """Return the depth corrected, and as it was measured where it was."""
        x = self.embed(torch.cat([features, depth], dim=1))
        x = self.deform(x, self.offset(features), torch.sigmoid(self.mask(features)))
        valid = (sparse > 0).to(depth.dtype)
        refined = depth + self.out(torch.relu(x))
        return valid * sparse + (1 - valid) * refined


class ReDC(nn.Module):
    """Coarse and refined depth, both of the image's size."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.rgb_stem = conv(3, width)
        self.depth_stem = conv(1, width // 2)
        fused = width + width // 2
        self.layer1 = Residual(fused, 2 * width, 2)
        self.layer2 = Residual(2 * width, 3 * width, 2)
        self.layer3 = Residual(3 * width, 4 * width, 2)
        self.up3 = Up(4 * width, 3 * width, 3 * width)
        self.up2 = Up(3 * width, 2 * width, 2 * width)
        self.up1 = Up(2 * width, fused, width)
        self.coarse = nn.Conv2d(width, 1, 3, padding=1)
        self.refine = Refinement(width)

    def forward(self, image: Tensor, sparse: Tensor) -> tuple[Tensor, Tensor]:
        """Image [b, 3, h, w] and sparse depth [b, 1, h, w], zero where none was measured."""
        x0 = torch.cat([self.rgb_stem(image), self.depth_stem(sparse)], dim=1)
        x1 = self.layer1(x0)
        x2 = self.layer2(x1)
        x = self.up3(self.layer3(x2), x2)
        x = self.up1(self.up2(x, x1), x0)
        coarse = functional.softplus(self.coarse(x))
        return coarse, self.refine(coarse, x, sparse)


def make() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Make the network with random weights, and a batch of images with sparse depth."""
    torch.manual_seed(0)
    sparse = torch.rand(2, 1, 32, 32) * (torch.rand(2, 1, 32, 32) < 0.1)
    return ReDC(), (torch.randn(2, 3, 32, 32), sparse)
