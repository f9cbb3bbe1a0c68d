"""MAPNet: what two images have in common, by self, cross, channel and spatial attention.

One backbone is called on both images; attention within each, then between them, then over channels
and positions; one branch says where they correspond, the other how alike they are.
"""

import torch
from torch import Tensor, nn


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """The basic block of a ResNet."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = conv(width, width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus its branch."""
        return torch.relu(x + self.bn2(self.conv2(self.conv1(x))))


class ChannelAttention(nn.Module):
    """A gate a channel, from the channel's mean and its maximum, by one shared MLP."""

    def __init__(self, width: int, ratio: int = 4) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, width // ratio), nn.ReLU(), nn.Linear(width // ratio, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return x times its gates."""
        gate = torch.sigmoid(self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3))))
        return x * gate[:, :, None, None]


class SpatialAttention(nn.Module):
    """A gate a position, from the mean and the maximum over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        """Return x times its gates."""
        both = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True).values], dim=1)
        return x * torch.sigmoid(self.conv(both))


class PairAttention(nn.Module):
    """Self-attention of each image's tokens, then attention to the other image's."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.cross_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(0.1), nn.Linear(2 * width, width)
        )

    def attend(self, x: Tensor) -> Tensor:
        """Attend within one image."""
        y = self.norm1(x)
        return x + self.self_attention(y, y, y, need_weights=False)[0]

    def compare(self, x: Tensor, other: Tensor) -> Tensor:
        """Attend from one image to the other."""
        y, other = self.norm2(x), self.norm2(other)
        x = x + self.cross_attention(y, other, other, need_weights=False)[0]
        return x + self.mlp(self.norm3(x))

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Return both images' tokens [b, n, width]."""
        a, b = self.attend(a), self.attend(b)
        return self.compare(a, b), self.compare(b, a)


class MAPNet(nn.Module):
    """A map of correspondence and a score for two images."""

    def __init__(self, width: int = 48, heads: int = 4) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            conv(3, width // 2, 2), conv(width // 2, width, 2), Residual(width),
            conv(width, width, 2), Residual(width),
        )  # fmt: skip
        self.attention = nn.ModuleList(PairAttention(width, heads) for _ in range(2))
        self.channel = ChannelAttention(width)
        self.spatial = SpatialAttention()
        self.map_branch = nn.Sequential(
            conv(2 * width, width),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            conv(width, width // 2),
            nn.Conv2d(width // 2, 1, 1),
        )
        self.score_branch = nn.Sequential(
            nn.Linear(3 * width, width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, 2)
        )

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Two images [b, 3, h, w] to the map [b, 1, h/4, w/4] and the scores [b, 2]."""
        a, b = self.backbone(first), self.backbone(second)
        height, width = a.shape[2:]
        x, y = a.flatten(2).transpose(1, 2), b.flatten(2).transpose(1, 2)
        for layer in self.attention:
            x, y = layer(x, y)
        a = a + x.transpose(1, 2).unflatten(2, (height, width))
        b = b + y.transpose(1, 2).unflatten(2, (height, width))
        a, b = self.spatial(self.channel(a)), self.spatial(self.channel(b))
        p, q = a.mean((2, 3)), b.mean((2, 3))
        score = self.score_branch(torch.cat([p, q, (p - q).abs()], dim=1))
        return self.map_branch(torch.cat([a, b], dim=1)), score


def make() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Make the network with random weights, and a batch of image pairs."""
    torch.manual_seed(0)
    return MAPNet(), (torch.randn(2, 3, 32, 32), torch.randn(2, 3, 32, 32))
