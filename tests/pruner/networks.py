"""Small networks with hand-computed structure, and the architectures that must work."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    """Two residual blocks on one stream, the second behind a projection; hand-computable."""

    def __init__(self, stream: int = 8, inner: int = 6, wide: int = 12) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, stream, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(stream)
        self.a1 = nn.Conv2d(stream, inner, 1)
        self.a2 = nn.Conv2d(inner, stream, 3, padding=1)
        self.b1 = nn.Conv2d(stream, inner, 3, stride=2, padding=1)
        self.b2 = nn.Conv2d(inner, wide, 1)
        self.project = nn.Conv2d(stream, wide, 1, stride=2)
        self.head = nn.Linear(wide, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(x + self.a2(torch.relu(self.a1(x))))
        x = torch.relu(self.project(x) + self.b2(torch.relu(self.b1(x))))
        return self.head(x.mean((2, 3)))


class Plain(nn.Module):
    """Convolutions, a flattened map into a linear layer: widths as arguments."""

    def __init__(self, first: int = 8, second: int = 12, hidden: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, first, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(first)
        self.conv2 = nn.Conv2d(first, second, 3, padding=1, stride=2)
        self.fc1 = nn.Linear(second * 16, hidden)
        self.fc2 = nn.Linear(hidden, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu(self.bn1(self.conv1(x)))
        x = nn.functional.hardsigmoid(self.conv2(x))
        return self.fc2(torch.relu(self.fc1(torch.flatten(x, 1))))


class Dense(nn.Module):
    """Concatenations of concatenations, a depthwise and a grouped convolution, a channel split."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.grow1 = nn.Conv2d(8, 4, 3, padding=1)
        self.grow2 = nn.Conv2d(12, 4, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.grouped = nn.Conv2d(16, 24, 3, padding=1, groups=4)
        self.left = nn.Conv2d(12, 6, 1)
        self.right = nn.Conv2d(12, 6, 1)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.cat([x, torch.relu(self.grow1(x))], 1)
        x = torch.cat([x, torch.relu(self.grow2(x))], 1)
        x = torch.relu(self.grouped(torch.relu(self.depthwise(x))))
        left, right = x.chunk(2, 1)
        x = torch.relu(self.left(left)) * torch.sigmoid(self.right(right))
        return self.head(x.mean((2, 3)))


class Attention(nn.Module):
    """Two heads of width four on a stream of six: fused projections, no normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 6, 4, stride=4)
        self.qkv = nn.Linear(6, 3 * 2 * 4)
        self.project = nn.Linear(8, 6)
        self.up = nn.Linear(6, 10)
        self.down = nn.Linear(10, 6)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, 2, 4).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)
        weights = (query @ key.transpose(-2, -1) / 2).softmax(-1)
        x = x + self.project((weights @ value).transpose(1, 2).reshape(batch, tokens, 8))
        x = x + self.down(nn.functional.gelu(self.up(x)))
        return self.head(x.mean(1))


class Odd(nn.Module):
    """A network with a part that no rule knows (the exponential of a matrix, channels by rows)."""

    def __init__(self) -> None:
        super().__init__()
        self.free = nn.Conv2d(3, 8, 3, padding=1)
        self.locked = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.locked(torch.relu(self.free(x)))
        x = torch.linalg.matrix_exp(0.1 * x.mean(3))
        return self.head(x.mean(2))


class Nested(nn.Module):
    """Two inputs by name, a dictionary out."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 10)
        self.b = nn.Linear(4, 10)
        self.c = nn.Linear(10, 3)

    def forward(self, x: Tensor, other: Tensor) -> dict[str, Tensor]:
        hidden = torch.relu(self.a(x) + self.b(other))
        return {"scores": self.c(hidden), "sums": hidden.sum(1)}


def shake(model: nn.Module, seed: int = 0) -> nn.Module:
    """Statistics, scales and shifts as after training: nothing is zero or one by chance."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(0.1 * torch.randn(buffer.shape, generator=generator))
            if name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()
