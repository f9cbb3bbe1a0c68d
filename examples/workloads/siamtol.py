"""SiamTOL: Siamese tracking whose exemplar is updated from what was found last.

One backbone embeds the first exemplar, the last one and the search image; a gate mixes the two
exemplars into the kernel; the search features are correlated with it channel by channel, which is a
convolution of one group for every channel of every image in the batch.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


def correlate(search: Tensor, kernel: Tensor) -> Tensor:
    """Correlate channel by channel: [b, c, H, W] with [b, c, h, w] to [b, c, H-h+1, W-w+1]."""
    batch, channels = kernel.size(0), kernel.size(1)
    x = search.reshape(1, batch * channels, search.size(2), search.size(3))
    weight = kernel.reshape(batch * channels, 1, kernel.size(2), kernel.size(3))
    y = functional.conv2d(x, weight, groups=batch * channels)
    return y.reshape(batch, channels, y.size(2), y.size(3))


class Backbone(nn.Module):
    """An AlexNet-like network of five convolutions, without padding at the end."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer1 = self.block(3, width // 2, 5, 2)
        self.layer2 = self.block(width // 2, width, 3, 2)
        self.layer3 = self.block(width, width, 3, 1)
        self.layer4 = self.block(width, width, 3, 1)
        self.layer5 = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, groups=2), nn.BatchNorm2d(width)
        )

    @staticmethod
    def block(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
        """Return convolution, batch norm and ReLU."""
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[b, 3, h, w] to [b, width, h/4, w/4]."""
        return self.layer5(self.layer4(self.layer3(self.layer2(self.layer1(x)))))


class Head(nn.Module):
    """Depthwise correlation between kernel and search features, then 1x1 convolutions."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.kernel = nn.Sequential(
            nn.Conv2d(inputs, hidden, 3, bias=False), nn.BatchNorm2d(hidden), nn.ReLU(inplace=True)
        )
        self.search = nn.Sequential(
            nn.Conv2d(inputs, hidden, 3, bias=False), nn.BatchNorm2d(hidden), nn.ReLU(inplace=True)
        )
        self.head = nn.Sequential(
            nn.Conv2d(hidden, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU(inplace=True),
            nn.Conv2d(hidden, outputs, 1),
        )  # fmt: skip

    def forward(self, exemplar: Tensor, search: Tensor) -> Tensor:
        """Return [b, outputs, height, width]."""
        return self.head(correlate(self.search(search), self.kernel(exemplar)))


class SiamTOL(nn.Module):
    """Class scores and boxes at every position of the search image."""

    def __init__(self, width: int = 64, anchors: int = 3) -> None:
        super().__init__()
        self.backbone = Backbone(width)
        self.neck = nn.Sequential(nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width))
        self.update = nn.Sequential(
            nn.Conv2d(2 * width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 1)
        )
        self.classes = Head(width, width, 2 * anchors)
        self.boxes = Head(width, width, 4 * anchors)

    def embed(self, image: Tensor) -> Tensor:
        """Embed one image."""
        return self.neck(self.backbone(image))

    def forward(self, exemplar: Tensor, last: Tensor, search: Tensor) -> tuple[Tensor, Tensor]:
        """Exemplars [b, 3, h, w] and search image [b, 3, H, W] to scores and boxes."""
        first, last, x = self.embed(exemplar), self.embed(last), self.embed(search)
        gate = torch.sigmoid(self.update(torch.cat([first, last], dim=1)))
        kernel = first + gate * (last - first)
        return self.classes(kernel, x), self.boxes(kernel, x)


def make() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Make the network with random weights, and a batch of exemplars and search images."""
    torch.manual_seed(0)
    small = torch.randn(2, 3, 24, 24), torch.randn(2, 3, 24, 24)
    return SiamTOL(), (*small, torch.randn(2, 3, 48, 48))
