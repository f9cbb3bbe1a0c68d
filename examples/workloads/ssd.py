"""SSD: a one-stage detector with heads at several scales, the first behind a learned L2 norm."""

import torch
from torch import Tensor, nn


class L2Norm(nn.Module):
    """Features of unit length at every position, scaled by a learned factor a channel."""

    def __init__(self, channels: int, scale: float = 20.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), scale))
        self.eps = 1e-10

    def forward(self, x: Tensor) -> Tensor:
        """Return x divided by its length over channels, times the scales."""
        length = x.pow(2).sum(dim=1, keepdim=True).sqrt() + self.eps
        return self.weight.unsqueeze(0).unsqueeze(2).unsqueeze(3).expand_as(x) * (x / length)


class Bottleneck(nn.Module):
    """The block of a ResNet-50."""

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return branch plus skip connection."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(y)))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class SSD(nn.Module):
    """Class scores and box offsets of all default boxes of all scales."""

    def __init__(self, classes: int = 7, width: int = 16, boxes: tuple[int, ...] = (4, 6, 6, 4)):
        super().__init__()
        self.classes = classes
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 7, 2, 3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
        )
        self.layer1 = nn.Sequential(Bottleneck(width, width), Bottleneck(4 * width, width))
        self.layer2 = nn.Sequential(
            Bottleneck(4 * width, 2 * width, 2), Bottleneck(8 * width, 2 * width)
        )
        self.l2norm = L2Norm(4 * width)
        self.extras = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inputs, 2 * width, 1), nn.ReLU(inplace=True),
                nn.Conv2d(2 * width, 4 * width, 3, 2, 1), nn.ReLU(inplace=True),
            )
            for inputs in (8 * width, 4 * width)
        )  # fmt: skip
        channels = (4 * width, 8 * width, 4 * width, 4 * width)
        self.loc = nn.ModuleList(nn.Conv2d(c, n * 4, 3, padding=1) for c, n in zip(channels, boxes))
        self.conf = nn.ModuleList(
            nn.Conv2d(c, n * classes, 3, padding=1) for c, n in zip(channels, boxes)
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """[b, 3, h, w] to scores [b, boxes, classes] and offsets [b, boxes, 4]."""
        x = self.layer1(self.stem(image))
        sources = [self.l2norm(x)]
        x = self.layer2(x)
        sources.append(x)
        for extra in self.extras:
            x = extra(x)
            sources.append(x)
        loc, conf = [], []
        for source, to_loc, to_conf in zip(sources, self.loc, self.conf):
            loc.append(to_loc(source).permute(0, 2, 3, 1).contiguous())
            conf.append(to_conf(source).permute(0, 2, 3, 1).contiguous())
        offsets = torch.cat([o.view(o.size(0), -1) for o in loc], 1)
        scores = torch.cat([o.view(o.size(0), -1) for o in conf], 1)
        batch = image.size(0)
        return scores.view(batch, -1, self.classes), offsets.view(batch, -1, 4)


def make() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Make the network with random weights, and a batch of images."""
    torch.manual_seed(0)
    return SSD(), (torch.randn(2, 3, 64, 64),)
