"""Whatever is linear in a weight is fitted as numpy's least squares would, on rows made by torch.

The rows come from the operator itself, applied to unit weights: an oracle that knows no unfolding.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import pruner
from pruner.errors import PrunerWarning
from pruner.reconstruction import ridge
from pruner.reconstruction.reconstruct import repair


class Einsum(nn.Module):
    """Heads with a matrix each."""

    def __init__(self):
        super().__init__()
        self.first, self.weight = nn.Linear(8, 12), nn.Parameter(torch.randn(4, 3, 5))

    def forward(self, x):
        x = self.first(x).relu().unflatten(-1, (4, 3))
        return torch.einsum("nthd,hde->nte", x, self.weight)


class Product(nn.Module):
    """x @ W + b, as GPT-2 spells a linear layer, and W @ x."""

    def __init__(self, added=True, left=False):
        super().__init__()
        self.first, self.added, self.left = nn.Linear(8, 12), added, left
        self.weight, self.bias = nn.Parameter(torch.randn(12, 5)), nn.Parameter(torch.randn(5))

    def forward(self, x):
        x = self.first(x).relu()
        if self.left:
            return torch.matmul(self.weight.t(), x.mT)
        if self.added:
            flat = torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), self.weight)
            return flat.reshape(len(x), -1, 5)
        return x @ self.weight + self.bias


class Heads(nn.Module):
    """A product of matrices, one for each head."""

    def __init__(self):
        super().__init__()
        self.first, self.weight = nn.Linear(8, 12), nn.Parameter(torch.randn(2, 6, 5))

    def forward(self, x):
        x = self.first(x).relu().unflatten(-1, (2, 6)).transpose(1, 2)
        return x @ self.weight


def behind(first, last):
    return lambda: nn.Sequential(first(), nn.ReLU(), last())


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.last = nn.Embedding(40, 12), nn.Linear(12, 5)

    def forward(self, ids):
        return self.last(self.table(ids))


NOISE = {
    "conv1d": (behind(lambda: nn.Conv1d(3, 12, 3), lambda: nn.Conv1d(12, 5, 3, 2, 2, 2)), (3, 20)),
    "conv2d": (
        behind(lambda: nn.Conv2d(3, 12, 1), lambda: nn.Conv2d(12, 5, (3, 2), padding="same")),
        (3, 7, 8),
    ),
    "conv3d": (behind(lambda: nn.Conv3d(2, 8, 1), lambda: nn.Conv3d(8, 3, 2, 2, 1)), (2, 4, 5, 4)),
    "grouped": (
        behind(lambda: nn.Conv2d(3, 12, 1), lambda: nn.Conv2d(12, 6, 3, groups=3, bias=False)),
        (3, 7, 7),
    ),
    "grouped1d": (
        behind(lambda: nn.Conv1d(3, 12, 1), lambda: nn.Conv1d(12, 6, 3, groups=2)), (3, 12),
    ),
    "transposed1d": (
        behind(lambda: nn.Conv1d(3, 12, 1), lambda: nn.ConvTranspose1d(12, 5, 4, 2, 1)), (3, 9),
    ),
    "transposed2d": (
        behind(
            lambda: nn.Conv2d(3, 12, 1),
            lambda: nn.ConvTranspose2d(12, 5, 3, (2, 1), 1, (1, 0), dilation=1),
        ),
        (3, 5, 6),
    ),
    "transposed grouped": (
        behind(
            lambda: nn.Conv2d(3, 12, 1),
            lambda: nn.ConvTranspose2d(12, 6, 2, 2, groups=3, bias=False),
        ),
        (3, 5, 6),
    ),
    "transposed3d": (
        behind(lambda: nn.Conv3d(2, 8, 1), lambda: nn.ConvTranspose3d(8, 3, 2, 2, dilation=2)),
        (2, 3, 4, 3),
    ),
    "linear": (behind(lambda: nn.Linear(8, 12), lambda: nn.Linear(12, 5)), (6, 8)),
    "addmm": (Product, (6, 8)),
    "matmul": (lambda: Product(added=False), (6, 8)),
    "on the left": (lambda: Product(left=True), (6, 8)),
    "einsum": (Einsum, (6, 8)),
    "heads": (Heads, (6, 8)),
    "embedding": (Words, None),
}  # fmt: skip


def draw(shape, count=40):
    if shape is None:
        return torch.randint(0, 40, (count, 7))
    return torch.randn(count, *shape)


def unfold(module, name, x):
    """The outputs by unit vectors of one parameter, all else zero: [outputs..., numbers]."""
    state = {k: torch.zeros_like(v) for k, v in module.named_parameters()}
    columns = []
    for number in range(state[name].numel()):
        unit = torch.zeros_like(state[name]).flatten()
        unit[number] = 1
        given = {**state, name: unit.view_as(state[name])}
        columns.append(torch.func.functional_call(module, given, (x,)))
    return torch.stack(columns, -1)


def solve(last, x, goal):
    """Least squares over weight and bias of a layer, by its own answers to unit weights."""
    names = [name for name, _ in last.named_parameters()]
    with torch.no_grad():
        rows = torch.cat([unfold(last, name, x) for name in names], -1)
    matrix = rows.flatten(0, -2).double().numpy()
    found = np.linalg.lstsq(matrix, goal.flatten().double().numpy(), rcond=None)[0]
    rest = matrix @ found - goal.flatten().double().numpy()
    return float(np.mean(rest**2))


def cut_one(net):
    """A plan that cuts a third of every Dim that something reads."""
    keep = {
        name: tuple(range(dim.size - max(1, dim.size // 3)))
        for name, dim in net.dims.items()
        if any(slot.role == "in" for slot in dim.slots)
    }
    return pruner.Plan(keep, {})


class Alone(nn.Module):
    """What stands behind the first layer of a cut network, as a function of what it reads."""

    def __init__(self, small, first):
        super().__init__()
        self.held = (small,)  # not as a submodule: its other parameters stay as they are
        for name, value in small.named_parameters():
            if not name.startswith(first + "."):
                self.register_parameter(name.replace(".", "_"), nn.Parameter(value.detach()))

    def forward(self, x):
        names = {n: n.replace(".", "_") for n, _ in self.held[0].named_parameters()}
        given = {n: getattr(self, short) for n, short in names.items() if hasattr(self, short)}
        return torch.func.functional_call(self.held[0], given, (x,))


@pytest.mark.parametrize("kind", sorted(NOISE))
def test_a_read_is_fitted_as_by_numpy(kind, monkeypatch):
    monkeypatch.setattr(ridge, "RIDGES", (1e-9,))
    torch.manual_seed(0)
    make, shape = NOISE[kind]
    model = make().eval()
    x = draw(shape)
    net = pruner.trace(model, (x[:2],))
    plan = cut_one(net)
    assert plan.keep
    small = pruner.apply(net, plan)
    with torch.no_grad():
        goal = net.module(x)
        before = float((small(x) - goal).square().mean())
    first = "table" if shape is None else next(iter(dict(small.named_parameters()))).split(".")[0]
    first = "first" if hasattr(model, "first") else first
    best = solve(Alone(small, first), x, goal)
    fitted = repair(small, net, plan, [(x, None)], spatial_samples=10**6)
    assert len(fitted) == 1
    with torch.no_grad():
        after = float((small(x) - goal).square().mean())
    assert before > 1.05 * best
    assert after == pytest.approx(best, rel=1e-3, abs=1e-9)


class Tokens(nn.Module):
    """Attention across two inputs and within one: fused projections, whole and in parts."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(8, 16)
        self.cross = nn.MultiheadAttention(16, 4, batch_first=True)
        self.own = nn.MultiheadAttention(16, 4, batch_first=True)
        self.last = nn.Linear(16, 5)

    def forward(self, x, z):
        q, k = self.a(x).relu(), self.b(z).relu()
        h = self.cross(q, k, k)[0]
        return self.last(self.own(h, h, h, need_weights=False)[0])


class Recurrent(nn.Module):
    def __init__(self, kind, **more):
        super().__init__()
        self.first, self.layer = nn.Conv1d(4, 12, 3, padding=1), kind(12, 10, **more)
        width = 10 * (2 if more.get("bidirectional") else 1)
        self.last = nn.Linear(width, 5)

    def forward(self, x):
        x = self.first(x).relu()
        x = x.transpose(1, 2) if self.layer.batch_first else x.permute(2, 0, 1)
        return self.last(self.layer(x)[0])


class Tied(nn.Module):
    """The table of words is the last layer's weight."""

    def __init__(self):
        super().__init__()
        self.table, self.hidden = nn.Embedding(20, 12), nn.Linear(12, 12)
        self.last = nn.Linear(12, 20, bias=False)
        self.last.weight = self.table.weight

    def forward(self, ids):
        return self.last(self.hidden(self.table(ids)).relu())


class Computed(nn.Module):
    """A weight that is computed from parameters."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 12), nn.utils.parametrizations.weight_norm(
            nn.Linear(12, 12)
        )  # fmt: skip
        self.out = nn.Linear(12, 5)

    def forward(self, x):
        return self.out(self.last(self.first(x).relu()).relu())


OTHERS = {
    "attention": (Tokens, lambda: (torch.randn(20, 6, 8), torch.randn(20, 7, 8)), 5),
    "lstm": (lambda: Recurrent(nn.LSTM, batch_first=True), lambda: (torch.randn(20, 4, 9),), 2),
    "lstm of two": (
        lambda: Recurrent(nn.LSTM, num_layers=2, bidirectional=True),
        lambda: (torch.randn(20, 4, 9),),
        2,
    ),
    "gru": (lambda: Recurrent(nn.GRU, batch_first=True), lambda: (torch.randn(20, 4, 9),), 2),
    "rnn": (lambda: Recurrent(nn.RNN, bias=False), lambda: (torch.randn(20, 4, 9),), 2),
    "tied": (Tied, lambda: (torch.randint(0, 20, (20, 6)),), 1),
    "computed": (Computed, lambda: (torch.randn(20, 6, 8),), 1),
}


@pytest.mark.parametrize("kind", sorted(OTHERS))
def test_what_stands_deeper_comes_nearer(kind):
    torch.manual_seed(1)
    make, inputs, least = OTHERS[kind]
    model, batches = make().eval(), [(inputs(), None) for _ in range(3)]
    net = pruner.trace(model, tuple(x[:2] for x in batches[0][0]))
    keep = {name: tuple(range(dim.size - max(1, dim.size // 4))) for name, dim in net.dims.items()}
    plan = pruner.Plan(keep, {})
    small = pruner.apply(net, plan)

    def measure():
        with torch.no_grad():
            pairs = [(small.eval()(*x), net.module.eval()(*x)) for x, _ in batches]
        return sum(float((a - b).square().mean() / b.square().mean()) for a, b in pairs)

    before = measure()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", PrunerWarning)
        fitted = repair(small, net, plan, batches)
    words = [str(one.message) for one in said if one.category is PrunerWarning]
    assert len(fitted) >= least
    assert measure() < 0.95 * before
    if kind == "tied":
        assert "last" not in fitted and any("reads its weight, too" in text for text in words)
        assert small.last.weight is small.table.weight
    if kind == "computed":
        assert any("repair leaves" in text and "last" in text for text in words)


@pytest.mark.parametrize("seed", range(4))
def test_no_repair_leads_away_on_its_own_samples(seed):
    """Few samples and deep cuts, at which fits of single layers may be bad for the whole."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv1d(3, 16, 3), nn.Tanh(), nn.Conv1d(16, 16, 3), nn.Tanh(), nn.Conv1d(16, 16, 3),
        nn.Tanh(), nn.Flatten(), nn.Linear(16 * 6, 7),
    ).eval()  # fmt: skip
    batches = [(torch.randn(2, 3, 12), None)]
    net = pruner.trace(model, (batches[0][0],))
    plan = pruner.Plan.random(net, macs=0.2, seed=seed)
    small = pruner.apply(net, plan)
    task = pruner.Task()

    def measure():
        with torch.no_grad():
            return float(task.divergence(small(batches[0][0]), net.module(batches[0][0])).mean)

    before = measure()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PrunerWarning)
        repair(small, net, plan, batches)
    assert measure() <= before * (1 + 1e-5)
