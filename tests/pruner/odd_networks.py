"""Small networks that do what few networks do; each must go the whole way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Writes(nn.Module):
    """Parts of a tensor are written in place, through views of views."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.2)
        self.b = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.norm(self.a(x)))
        y = torch.zeros_like(x)
        y[:, :4] = x[:, 4:]
        y[:, 4:] = torch.relu(x[:, :4])
        y[:, 1].mul_(2)
        y[:, :, ::2] += 1
        y.flatten(2)[:, 6:].clamp_(min=0)
        return self.head(self.b(y).mean((2, 3)))


class Shift(nn.Module):
    """Channels shifted along the map (J. Lin et al., "TSM", 2019): copies into a zero tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(8, 6, 3, padding=1)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        out = torch.zeros_like(x)
        out[:, :2, 1:] = x[:, :2, :-1]
        out[:, 2:4, :-1] = x[:, 2:4, 1:]
        out[:, 4:] = x[:, 4:]
        return self.head(self.b(out).mean((2, 3)))


class Contexts(nn.Module):
    """Blocks under no_grad and autocast; the input is written to."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x -= x.mean()
        x = self.a(x)
        with torch.autocast("cpu", enabled=False):
            x = self.b(x).relu_()
        with torch.no_grad():
            gate = torch.sigmoid(x)
        return self.c(x * gate)


class Counter(nn.Module):
    """Buffers that every call writes, and one that state_dict leaves out."""

    count: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.a, self.c = nn.Linear(6, 8), nn.Linear(8, 4)
        self.register_buffer("count", torch.zeros(1))
        self.register_buffer("scale", torch.full((8,), 0.5), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return self.c(self.a(x) * self.scale) + self.count.clone()


class Shared(nn.Module):
    """One module three times, and the same one under a second name."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.c = nn.Linear(6, 8), nn.Linear(8, 4)
        self.block = nn.Sequential(
            nn.Linear(8, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.1), nn.Linear(12, 8)
        )
        self.again = self.block

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = x + self.block(x)
        x = x + self.block(x)
        return self.c(x + self.again(x))


class Tied(nn.Module):
    """Words in, words out, by the same matrix; a parameter used directly."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 8, padding_idx=0)
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)
        self.gain = nn.Parameter(torch.linspace(0.5, 1.5, 8))
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.words.weight

    def forward(self, words: Tensor) -> Tensor:
        x = self.words(words) * self.gain
        return self.head(x + self.down(torch.relu(self.up(x))))


class Nests(nn.Module):
    """Dictionaries and lists in and out, integers among the inputs, None among the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.words = nn.Linear(6, 8), nn.Linear(4, 8), nn.Embedding(5, 8)
        self.matrix = nn.Parameter(torch.randn(8, 8))
        self.c = nn.Linear(8, 3)

    def forward(self, batch: dict[str, Any]) -> dict[str, Any]:
        x = torch.relu(self.a(batch["x"]) + self.b(batch["y"][0]) + self.words(batch["words"]))
        x = x @ self.matrix
        return {"scores": (self.c(x), None), "sums": [x.sum(1)]}


class Recurrent(nn.Module):
    """A convolution, then an LSTM or GRU whose last state is read too."""

    def __init__(self, kind: type[nn.RNNBase] = nn.LSTM, **settings: Any) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 8, 3, padding=1)
        self.rnn = kind(8, 6, batch_first=True, **settings)
        self.head = nn.Linear(12 if settings.get("bidirectional") else 6, 5)

    def forward(self, x: Tensor) -> Tensor:
        y, state = self.rnn(torch.relu(self.conv(x)).transpose(1, 2))
        last = state[1] if isinstance(state, tuple) else state
        return self.head(y[:, -1]) + last.sum((0, 2))[:, None]


class Encoder(nn.Module):
    """torch's own transformer layers, whose fast path is one operator."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.c = nn.Linear(4, 8), nn.Linear(8, 3)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.layers(self.a(x)).mean(1))


def odd_networks() -> dict[str, tuple[nn.Module, Any]]:
    """Name -> network, its one input with a batch of two."""
    dice = torch.Generator().manual_seed(0)

    def rand(*size: int) -> Tensor:
        return torch.randn(2, *size, generator=dice)

    nests = {"x": rand(6), "y": [rand(4)], "words": torch.tensor([1, 4])}
    torch.manual_seed(0)
    return {
        "Writes": (Writes(), rand(3, 8, 8)),
        "Shift": (Shift(), rand(3, 8, 8)),
        "Contexts": (Contexts(), rand(6)),
        "Counter": (Counter(), rand(6)),
        "Shared": (Shared(), rand(6)),
        "Tied": (Tied(), torch.tensor([[1, 2, 0], [4, 10, 3]])),
        "Nests": (Nests(), nests),
        "LSTM": (Recurrent(), rand(3, 7)),
        "LSTM both ways": (Recurrent(bidirectional=True, num_layers=2, dropout=0.1), rand(3, 7)),
        "GRU": (Recurrent(nn.GRU, num_layers=2, dropout=0.1), rand(3, 7)),
        "Encoder": (Encoder(), rand(5, 4)),
    }
