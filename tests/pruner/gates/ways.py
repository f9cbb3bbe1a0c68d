"""Small networks that read, join and work along their channels in one way each."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


class Along(nn.Module):
    """A map of twelve channels between two convolutions, changed by some function of it."""

    def __init__(self, change: Callable[[Tensor], Tensor], channels: int = 12) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 12, 3), nn.Conv2d(channels, 4, 1)
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.change(self.first(x)))


class Layered(Along):
    """A map between two convolutions, changed by a layer with weights of its own."""

    def __init__(self, layer: nn.Module, channels: int = 12) -> None:
        super().__init__(layer, channels)


class Standardized(nn.Module):
    """A convolution whose weight is standardized over all that it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.last.weight
        flat = functional.batch_norm(
            weight.reshape(1, len(weight), -1), None, None, training=True, momentum=0.0
        )
        return functional.conv2d(self.first(x), flat.reshape(weight.shape), self.last.bias)


class Views(nn.Module):
    """Weights that are split off one tensor, transposed, shared by two calls."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 20))
        self.both = nn.Linear(8, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        up, down = self.weight.split([12, 8], 1)
        x = torch.tanh(x @ up)
        x = functional.linear(x, torch.cat([down, down[:4]]).t())
        return self.head(torch.relu(self.both(torch.relu(self.both(x)))))


class Squeezed(nn.Module):
    """Attention over channels and over the map: means and maxima of both (CBAM)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 4, 1)
        self.down, self.up, self.map = nn.Linear(12, 6), nn.Linear(6, 12), nn.Conv2d(2, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        rows = [self.up(torch.relu(self.down(r))) for r in (x.mean((2, 3)), x.amax((2, 3)))]
        x = x * torch.sigmoid(rows[0] + rows[1])[..., None, None]
        planes = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)
        return self.last(x * torch.sigmoid(self.map(planes)))


class Selected(nn.Module):
    """Branches weighed by a softmax over them, and values by one over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 12, 3), nn.Conv2d(3, 12, 3)
        self.scores, self.last = nn.Linear(12, 24), nn.Conv2d(12, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.first(x), self.second(x)
        scores = self.scores((a + b).mean((2, 3))).reshape(-1, 2, 12).softmax(1)
        mixed = a * scores[:, 0, :, None, None] + b * scores[:, 1, :, None, None]
        return self.last(mixed * mixed.mean((2, 3), keepdim=True).softmax(1))


class LinearAttention(nn.Module):
    """Two heads of attention without a softmax over positions, by einsum, keys as features."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out, self.norm = nn.Linear(6, 48), nn.Linear(16, 6), nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = q.softmax(-1), functional.normalize(k, dim=-1)
        context = torch.einsum("bhnd,bhne->bhde", k, v)
        y = torch.einsum("bhnd,bhde->bhne", q, context).transpose(1, 2).reshape(b, n, 16)
        return self.norm(x + self.out(y)).mean(1)


class Prototypes(nn.Module):
    """Distances to prototypes."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.points = nn.Linear(6, 10), nn.Parameter(torch.randn(5, 10))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cdist(self.embed(x), self.points)


class Transposed(nn.Module):
    """Transposed and grouped convolutions, group norm, a scaled branch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(4, 8)
        self.a = nn.ConvTranspose2d(8, 12, 3, padding=1, groups=2)
        self.b = nn.ConvTranspose2d(12, 8, 1)
        self.scale, self.head = nn.Parameter(torch.rand(8, 1, 1)), nn.Conv2d(8, 4, 1, groups=4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.addcmul(x, self.scale, self.b(torch.relu(self.a(self.norm(x)))))
        return self.head(x - self.b(torch.tanh(self.a(x))))


def normalize_l1(x: Tensor) -> Tensor:
    return x / x.abs().sum(1, keepdim=True)


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda x: x + x.softmax(1),
    "log_softmax": lambda x: x.log_softmax(1),
    "standardize": lambda x: (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 0.1),
    "var_mean": lambda x: x * sum(torch.var_mean(x, (1, 2), correction=0, keepdim=True)),
    "l1": normalize_l1,
    "l2": lambda x: functional.normalize(x, dim=1),
    "p3": lambda x: functional.normalize(x, p=3.0, dim=1),
    "largest": lambda x: x - x.amax(1, keepdim=True) + x.min(1, keepdim=True)[0],
    "infinity": lambda x: x / torch.linalg.vector_norm(x, torch.inf, 1, keepdim=True),
    "logsumexp": lambda x: x - x.logsumexp(1, keepdim=True),
    "product": lambda x: x * (0.5 + x.sigmoid()).prod(1, keepdim=True),
    "counts": lambda x: x * (x > 0).sum(1, keepdim=True) * (x > -1).all(1, keepdim=True),
    "all axes": lambda x: x / x.square().mean(),
    "doubled": lambda x: torch.cat([x, -x], 1).relu().reshape(-1, 2, 12, 6, 6).sum(1),
}
"""What a map of channels can be changed by, along the channels."""


def small_networks() -> dict[str, tuple[nn.Module, Tensor]]:
    """Name -> network in evaluation mode and its input, a batch of two, in float64."""
    from ..networks import Attention, Dense, Plain, Residual, shake
    from ..odd_networks import odd_networks

    torch.manual_seed(0)
    image, rows, row = torch.randn(2, 3, 8, 8), torch.randn(2, 5, 6), torch.randn(2, 8)
    made: dict[str, tuple[nn.Module, Tensor]] = {
        "residual": (Residual(), image), "plain": (Plain(), image), "dense": (Dense(), image),
        "attention": (Attention(), image), "standardized": (Standardized(), image),
        "views": (Views(), row), "squeezed": (Squeezed(), image), "selected": (Selected(), image),
        "linear attention": (LinearAttention(), rows), "prototypes": (Prototypes(), rows),
        "transposed": (Transposed(), image),
        "layer norm": (Layered(nn.LayerNorm([12, 6, 6])), image),
        "group norm": (Layered(nn.GroupNorm(3, 12)), image),
        "prelu": (Layered(nn.PReLU(12)), image),
        "rms norm": (nn.Sequential(nn.Linear(6, 10), nn.RMSNorm(10), nn.Linear(10, 3)), rows),
        **{name: (Along(change), image) for name, change in CHANGES.items()},
        **{name: odd_networks()[name] for name in ("Shared", "LSTM", "LSTM both ways", "GRU",
                                                   "Encoder")},
    }  # fmt: skip
    return {name: (shake(model).double(), x.double()) for name, (model, x) in made.items()}
