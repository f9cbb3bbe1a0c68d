"""Multi-view 3D detection with queries (StreamPETR-like), over the frames of a clip.

Every camera's positions are embedded as points in space by its inverse projection; queries attend
to one another and to the best of the frame before, then to all views; the best of them are the next
frame's memory, moved by the vehicle's own motion through a layer norm that the motion modulates.
"""

import torch
from torch import Tensor, nn


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Return the logit of x, clamped."""
    x = x.clamp(min=0, max=1)
    return torch.log(x.clamp(min=eps) / (1 - x).clamp(min=eps))


def embed_points(points: Tensor, width: int, temperature: float = 10000.0) -> Tensor:
    """Sines and cosines [..., 3 * width] of points [..., 3]."""
    exponent = torch.arange(width, dtype=torch.float32, device=points.device)
    exponent = temperature ** (2 * torch.div(exponent, 2, rounding_mode="floor") / width)
    angle = points[..., None] * 2 * torch.pi / exponent
    waves = torch.stack((angle[..., 0::2].sin(), angle[..., 1::2].cos()), dim=-1)
    return waves.flatten(-3)


class MotionNorm(nn.Module):
    """A layer norm whose scale and shift come from the motion between frames."""

    def __init__(self, conditions: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.reduce = nn.Sequential(nn.Linear(conditions, width), nn.ReLU())
        self.gamma, self.beta = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor, conditions: Tensor) -> Tensor:
        """Modulate x [b, n, width] by conditions [b, 1, conditions]."""
        c = self.reduce(conditions)
        return self.gamma(c) * self.norm(x) + self.beta(c)


class DecoderLayer(nn.Module):
    """Attention among queries and memory, then to the images, then an MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_attention = nn.MultiheadAttention(width, heads, dropout=0.1, batch_first=True)
        self.cross_attention = nn.MultiheadAttention(width, heads, dropout=0.1, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(2 * width, width)
        )
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tensor, query_position: Tensor, memory: Tensor, memory_position: Tensor,
                tokens: Tensor, token_position: Tensor) -> Tensor:  # fmt: skip
        """Return the queries [b, q, width]."""
        value = torch.cat([x, memory], dim=1)
        key = torch.cat([x + query_position, memory + memory_position], dim=1)
        x = self.norm1(x + self.self_attention(x + query_position, key, value)[0])
        key = tokens + token_position
        x = self.norm2(x + self.cross_attention(x + query_position, key, tokens)[0])
        return self.norm3(x + self.mlp(x))


class MultiViewDetector(nn.Module):
    """Class scores and boxes of every query in every frame."""

    def __init__(self, width: int = 48, heads: int = 4, layers: int = 2, queries: int = 10,
                 kept: int = 4, depths: int = 4, classes: int = 5) -> None:  # fmt: skip
        super().__init__()
        self.width, self.kept, self.depths = width, kept, depths
        self.backbone = nn.Sequential(
            nn.Conv2d(3, width // 2, 3, 2, 1, bias=False), nn.BatchNorm2d(width // 2), nn.ReLU(),
            nn.Conv2d(width // 2, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        )  # fmt: skip
        self.project = nn.Conv2d(width, width, 1)
        self.camera = nn.Sequential(
            nn.Linear(3 * depths, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )
        self.reference = nn.Parameter(torch.rand(queries, 3))
        self.query_embed = nn.Sequential(nn.Linear(48, width), nn.ReLU(), nn.Linear(width, width))
        self.memory = nn.Parameter(torch.zeros(kept, width))
        self.memory_reference = nn.Parameter(torch.rand(kept, 3))
        self.motion = MotionNorm(12, width)
        self.layers = nn.ModuleList(DecoderLayer(width, heads) for _ in range(layers))
        self.classify = nn.Sequential(
            nn.Linear(width, width), nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, classes)
        )
        self.regress = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 8))

    def embed_cameras(self, inverse: Tensor, height: int, width: int) -> Tensor:
        """Embed the points that each position sees, [b, views * positions, d]."""
        y, x = torch.meshgrid(
            torch.arange(height, device=inverse.device, dtype=inverse.dtype),
            torch.arange(width, device=inverse.device, dtype=inverse.dtype),
            indexing="ij",
        )
        depth = torch.arange(1, self.depths + 1, device=inverse.device, dtype=inverse.dtype)
        pixels = torch.stack([x, y], dim=-1)[:, :, None] * depth[:, None]
        depth = depth[:, None].expand(height, width, -1, -1)
        rays = torch.cat([pixels, depth, torch.ones_like(depth)], dim=-1)
        points = torch.einsum("bvij,hwdj->bvhwdi", inverse, rays)[..., :3]
        points = inverse_sigmoid(torch.sigmoid(points)).flatten(4)
        return self.camera(points).flatten(1, 3)

    def forward(self, clip: Tensor, inverse: Tensor, poses: Tensor) -> tuple[Tensor, Tensor]:
        """Detect in every frame.

        Args:
            clip: Images, [b, frames, views, 3, h, w].
            inverse: Inverse projections of the cameras, [b, views, 4, 4].
            poses: The vehicle's motion since the frame before, [b, frames, 4, 4].

        Returns:
            Scores [b, frames, queries, classes] and boxes [b, frames, queries, 8].
        """
        batch = clip.shape[0]
        reference = self.reference.expand(batch, -1, -1)
        memory = self.memory.expand(batch, -1, -1)
        places = self.memory_reference.expand(batch, -1, -1)
        all_scores, all_boxes = [], []
        for frame, pose in zip(clip.unbind(1), poses.unbind(1)):
            views = frame.shape[1]
            maps = self.project(self.backbone(frame.flatten(0, 1)))
            height, width = maps.shape[-2:]
            tokens = maps.unflatten(0, (batch, views)).permute(0, 1, 3, 4, 2).flatten(1, 3)
            token_position = self.embed_cameras(inverse, height, width)
            moved = torch.cat([places, torch.ones_like(places[..., :1])], -1) @ pose.transpose(1, 2)
            places = moved[..., :3]
            memory = self.motion(memory, pose[:, None, :3].flatten(2))
            query_position = self.query_embed(embed_points(reference, 16))
            memory_position = self.query_embed(embed_points(places, 16))
            x = torch.zeros_like(query_position)
            for layer in self.layers:
                x = layer(x, query_position, memory, memory_position, tokens, token_position)
            scores, boxes = self.classify(x), self.regress(x)
            centers = torch.sigmoid(boxes[..., :3] + inverse_sigmoid(reference))
            boxes = torch.cat([centers, boxes[..., 3:]], dim=-1)
            best = scores.amax(-1).topk(self.kept, dim=1).indices[..., None]
            memory = x.gather(1, best.expand(-1, -1, x.shape[-1]))
            places = centers.gather(1, best.expand(-1, -1, 3))
            all_scores.append(scores)
            all_boxes.append(boxes)
        return torch.stack(all_scores, 1), torch.stack(all_boxes, 1)


def make() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Make the network with random weights, and a batch of clips with cameras and motion."""
    torch.manual_seed(0)
    inverse = torch.eye(4).repeat(2, 3, 1, 1) + 0.1 * torch.randn(2, 3, 4, 4)
    poses = torch.eye(4).repeat(2, 2, 1, 1) + 0.05 * torch.randn(2, 2, 4, 4)
    return MultiViewDetector(), (torch.randn(2, 2, 3, 3, 32, 32), inverse, poses)
