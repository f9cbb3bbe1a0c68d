"""Point tracking that learns from cycle-consistent pseudo labels.

A residual encoder with instance norms held in lists, the correlation of every point's feature with
every position of every frame, looked up around the current estimate at several scales, and an
updater that refines positions and features a few times.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class ResidualUnit(nn.Module):
    """Two convolutions with norms of a list, and a projection where width or stride change."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(inputs, outputs, 3, stride, padding=1),
                nn.Conv2d(outputs, outputs, 3, padding=1),
            ]
        )
        self.norms = nn.ModuleList(nn.InstanceNorm2d(outputs, affine=True) for _ in range(2))
        self.project = (
            nn.Conv2d(inputs, outputs, 1, stride) if stride > 1 or inputs != outputs else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of branch and skip connection."""
        y = x
        for convolution, norm in zip(self.convs, self.norms):
            y = torch.relu(norm(convolution(y)))
        return torch.relu(y + (x if self.project is None else self.project(x)))


class Updater(nn.Module):
    """A transformer over the frames of each track, with layer norms in a list."""

    def __init__(self, inputs: int, width: int, outputs: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.embed = nn.Linear(inputs, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[tracks, frames, inputs] to [tracks, frames, outputs]."""
        x = self.embed(x)
        tracks, frames, width = x.shape
        q, k, v = self.qkv(self.norms[0](x)).chunk(3, dim=-1)
        q, k, v = (
            t.reshape(tracks, frames, self.heads, width // self.heads).transpose(1, 2)
            for t in (q, k, v)
        )
        y = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(y.transpose(1, 2).reshape(tracks, frames, width))
        x = x + self.mlp(self.norms[1](x))
        return self.head(self.norms[2](x))


class PointTracker(nn.Module):
    """Tracks query points through a clip; run backwards too, the cycle gives the labels."""

    def __init__(self, width: int = 32, levels: int = 2, radius: int = 1, steps: int = 2) -> None:
        super().__init__()
        self.levels, self.radius, self.steps, self.width = levels, radius, steps, width
        self.stem = nn.Conv2d(3, width, 7, stride=2, padding=3)
        self.stem_norms = nn.ModuleList([nn.InstanceNorm2d(width, affine=True)])
        self.layers = nn.Sequential(
            ResidualUnit(width, width, 1),
            ResidualUnit(width, 2 * width, 2),
            nn.Conv2d(2 * width, width, 1),
        )
        taps = levels * (2 * radius + 1) ** 2
        self.updater = Updater(taps + width + 2, 2 * width, width + 2)
        self.feature_update = nn.Sequential(
            nn.GroupNorm(1, width), nn.Linear(width, width), nn.GELU()
        )
        self.visibility = nn.Linear(width, 1)

    def encode(self, clip: Tensor) -> Tensor:
        """[b, t, 3, h, w] to unit features [b, t, width, h/4, w/4]."""
        x = self.stem_norms[0](self.stem(clip.flatten(0, 1)))
        x = self.layers(torch.relu(x))
        return functional.normalize(x, dim=1).unflatten(0, clip.shape[:2])

    def sample(self, maps: Tensor, points: Tensor) -> Tensor:
        """Sample maps [n, c, h, w] at points [n, p, 2] in pixels: [n, c, p]."""
        size = torch.tensor([maps.shape[-1] - 1, maps.shape[-2] - 1], device=maps.device)
        grid = points / size * 2 - 1
        return functional.grid_sample(maps, grid[:, :, None], align_corners=True)[..., 0]

    def look_up(self, volumes: list[Tensor], points: Tensor) -> Tensor:
        """Correlations [b, t, n, taps] around points [b, t, n, 2] at every scale."""
        offsets = torch.arange(-self.radius, self.radius + 1, device=points.device)
        window = torch.stack(torch.meshgrid(offsets, offsets, indexing="xy"), dim=-1)
        window = window.reshape(-1, 2).to(points.dtype)
        batch, frames, count, _ = points.shape
        found = []
        for level, volume in enumerate(volumes):
            near = points[:, :, :, None] / 2**level + window
            near = near.reshape(batch * frames * count, -1, 2)
            taken = self.sample(volume.flatten(0, 2)[:, None], near)
            found.append(taken.reshape(batch, frames, count, -1))
        return torch.cat(found, dim=-1)

    def correlate(self, maps: Tensor, features: Tensor) -> list[Tensor]:
        """Volumes [b, t, n, h, w] of features [b, t, n, c] with maps, at every scale."""
        volume = torch.einsum("btnc,btchw->btnhw", features, maps) / maps.shape[2] ** 0.5
        volumes = [volume]
        for _ in range(1, self.levels):
            smaller = functional.avg_pool2d(volumes[-1].flatten(0, 1), 2)
            volumes.append(smaller.unflatten(0, volume.shape[:2]))
        return volumes

    def forward(self, clip: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Clip [b, t, 3, h, w] and points [b, n, 2] of its first frame to tracks and visibility."""
        batch, frames = clip.shape[:2]
        count = queries.shape[1]
        maps = self.encode(clip)
        points = (queries / 4)[:, None].expand(-1, frames, -1, -1)
        first = self.sample(maps[:, 0], queries / 4).transpose(1, 2)
        features = first[:, None].expand(-1, frames, -1, -1)
        for _ in range(self.steps):
            taps = self.look_up(self.correlate(maps, features), points)
            moved = points - points[:, :1]
            x = torch.cat([taps, features, moved], dim=-1)
            x = x.transpose(1, 2).reshape(batch * count, frames, -1)
            update = self.updater(x).reshape(batch, count, frames, -1).transpose(1, 2)
            step, change = update.split([2, self.width], dim=-1)
            points = points + step
            change = self.feature_update(change.reshape(-1, self.width))
            features = features + change.reshape(batch, frames, count, self.width)
        return points * 4, self.visibility(features)[..., 0]


def make() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Make the network with random weights, and a batch of clips with query points."""
    torch.manual_seed(0)
    return PointTracker(), (torch.randn(2, 4, 3, 32, 32), torch.rand(2, 5, 2) * 31)
