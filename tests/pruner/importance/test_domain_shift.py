"""Domain shift against cosines of maps that a forward pass written out by hand has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from pruner.data import wrap_datasets
from pruner.errors import PrunerError
from pruner.importance.domain_shift import DomainShift
from pruner.importance.score import score
from pruner.problem.objective import objective_value
from pruner.run.cli import main
from pruner.run.run_folder import RunFolder
from pruner.structure.importance import Importance
from pruner.structure.trace import trace
from pruner.tasks import Task

from ..every_task import save
from ..networks import Attention, Residual, shake
from ..runs import prepare, restore_run


def make_target(inputs: Tensor) -> Task:
    """A task whose second domain is these inputs."""
    rows = [(x, 0) for x in inputs]
    return Task().with_target(wrap_datasets((rows, rows), workers=0))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def cut(inputs: Tensor, size: int = 7) -> list[tuple[Tensor, None]]:
    """Batches of which the last is smaller: means are over samples, not over batches."""
    return [(part, None) for part in inputs.split(size)]


def cosines(ours: Tensor, theirs: Tensor, axis: int) -> np.ndarray:
    """Of the maps' means over samples, by numpy; axis of the channels, without the samples."""
    a, b = (np.moveaxis(x.double().numpy().mean(0), axis, 0) for x in (ours, theirs))
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    norm = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.divide((a * b).sum(1), norm, out=np.zeros(len(a)), where=norm > 0)


def raise_least(values: np.ndarray) -> np.ndarray:
    return values - min(0.0, values.min())


def find_dim(net, tensor: str, role: str = "out") -> str:
    """The Dim that a tensor writes."""
    return next(
        n for n, d in net.dims.items()
        if any(s.tensor == tensor and s.role == role for s in d.slots)
    )  # fmt: skip


@torch.no_grad()
def test_of_convolutions_it_is_the_cosine_of_mean_maps_behind_norm_activation_and_sum() -> None:
    torch.manual_seed(0)
    model = shake(Residual())
    net = trace(model, (torch.zeros(1, 3, 8, 8),), step=1)
    ours, theirs = draw(30, 3, 8, 8), 0.6 * draw(30, 3, 8, 8, seed=1) + 0.5
    found = score(net, cut(ours), None, "domain_shift", task=make_target(theirs))

    def run(x: Tensor) -> dict[str, Tensor]:
        values = {"stem": torch.relu(model.norm(model.stem(x)))}
        values["a1"] = torch.relu(model.a1(values["stem"]))
        values["a2"] = torch.relu(values["stem"] + model.a2(values["a1"]))
        values["b1"] = torch.relu(model.b1(values["a2"]))
        values["project"] = model.project(values["a2"])
        values["b2"] = torch.relu(values["project"] + model.b2(values["b1"]))
        return values

    a, b = run(ours), run(theirs)
    for layers in (("a1",), ("b1",), ("stem", "a2"), ("project", "b2")):
        name = find_dim(net, f"{layers[0]}.weight")
        each = np.array([cosines(a[layer], b[layer], 0) for layer in layers])
        expected = raise_least(each.mean(0))
        assert found.total(name) == pytest.approx(expected, abs=1e-5)
        total = np.abs(each).sum(0)
        share = np.abs(each) / np.where(total > 0, total, 1)
        parts = {cell.rpartition(".")[0] or cell: v for cell, v in found.parts[name].items()}
        assert set(parts) == set(layers)
        for layer, own in zip(layers, share):
            assert parts[layer] == pytest.approx(own * expected, abs=1e-5)
    (block,) = [n for n, b in net.blocks.items() if b.skip.startswith("relu")]
    assert objective_value(net, found, dropped=(block,)) < objective_value(net, found)


@torch.no_grad()
def test_of_tokens_it_is_the_cosine_over_tokens_and_of_heads_over_all_their_channels() -> None:
    torch.manual_seed(0)
    model = Attention()
    net = trace(model, (torch.zeros(1, 3, 16, 16),), step=1)
    ours, theirs = draw(20, 3, 16, 16), draw(20, 3, 16, 16, seed=1) + 0.3
    found = score(net, cut(ours), None, "domain_shift", task=make_target(theirs))

    def run(x: Tensor) -> dict[str, Tensor]:
        values = {"embed": model.embed(x).flatten(2).transpose(1, 2)}
        qkv = model.qkv(values["embed"]).reshape(len(x), -1, 3, 2, 4).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)
        mixed = (query @ key.transpose(-2, -1) / 2).softmax(-1) @ value
        values["sum1"] = values["embed"] + model.project(mixed.transpose(1, 2).flatten(2))
        values["up"] = gelu(model.up(values["sum1"]))
        values["sum2"] = values["sum1"] + model.down(values["up"])
        values |= {"query": query, "key": key, "value": value}
        return values

    a, b = run(ours), run(theirs)
    expected = raise_least(cosines(a["up"], b["up"], 1))
    assert found.total(find_dim(net, "up.weight")) == pytest.approx(expected, abs=1e-5)
    stream = [cosines(a[k], b[k], 1) for k in ("embed", "sum1", "sum2")]
    expected = raise_least(np.mean(stream, 0))
    assert found.total(find_dim(net, "embed.weight")) == pytest.approx(expected, abs=1e-5)
    by_kind = {dim.kind: name for name, dim in net.dims.items()}
    expected = raise_least(cosines(a["value"], b["value"], 2))  # [heads, tokens, width]
    assert found.total(by_kind["v"]) == pytest.approx(expected, abs=1e-5)
    expected = raise_least(np.mean([cosines(a[k], b[k], 2) for k in ("query", "key")], 0))
    assert found.total(by_kind["qk"]) == pytest.approx(expected, abs=1e-5)
    each = [cosines(a[k], b[k], 0) for k in ("query", "key", "value")]
    expected = raise_least(np.mean(each, 0))
    assert found.total(by_kind["heads"]) == pytest.approx(expected, abs=1e-5)


class Windows(nn.Module):
    """Linear layers on windows, which lie in one axis with the samples; and a sequence first."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.inner = nn.Linear(3, 6), nn.Linear(6, 8)
        self.back, self.head = nn.Linear(8, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:  # [n, 8, 3]
        count = x.shape[0]
        x = torch.relu(self.embed(x)).reshape(count * 4, 2, 6)  # four windows of two
        x = x + self.back(torch.relu(self.inner(x)))
        x = x.reshape(count, 8, 6).transpose(0, 1).reshape(-1, 6)
        return self.head(x).reshape(8, count, 4).mean(0)


@torch.no_grad()
def test_windows_are_positions_and_not_samples() -> None:
    torch.manual_seed(0)
    model = Windows()
    net = trace(model, (torch.zeros(1, 8, 3),), step=1)
    ours, theirs = draw(12, 8, 3), draw(12, 8, 3, seed=1) + 0.4
    found = score(net, cut(ours, 5), None, DomainShift(), task=make_target(theirs))

    def run(x: Tensor) -> Tensor:
        return torch.relu(model.inner(torch.relu(model.embed(x))))

    name = find_dim(net, "inner.weight")
    expected = raise_least(cosines(run(ours), run(theirs), 1))
    assert found.total(name) == pytest.approx(expected, abs=1e-5)


class Reader(nn.Module):
    """A recurrent layer, of whose results one is read."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.LSTM(3, 7, batch_first=True)
        self.head = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rows(x)[0].mean(1))


class Gated(nn.Module):
    """Halves of one convolution, multiplied: what is handed on is the product."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.next = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(6, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.both(x).chunk(2, 1)
        return self.next(left * torch.sigmoid(right)).mean((2, 3))


class Folded(nn.Module):
    """A weight that is the product of two: no value has what lies between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 5)
        self.left = nn.Parameter(torch.randn(7, 4))
        self.right = nn.Parameter(torch.randn(4, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        return nn.functional.linear(x, self.left @ self.right).mean(1)


@torch.no_grad()
@pytest.mark.parametrize("kind", [Reader, Gated, Folded])
def test_the_map_is_what_is_handed_on_whatever_the_operator(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = kind()
    shape = (12, 3, 8, 8) if kind is Gated else (12, 6, 3)
    net = trace(model, (torch.zeros(1, *shape[1:]),), step=1)
    ours, theirs = draw(*shape), draw(*shape, seed=1) + 0.4
    found = score(net, cut(ours), None, "domain_shift", task=make_target(theirs))

    def run(x: Tensor) -> Tensor:
        if kind is Reader:
            return model.rows(x)[0]
        if kind is Folded:
            return torch.relu(model.first(x))
        left, right = model.both(x).chunk(2, 1)
        return left * torch.sigmoid(right)

    tensor = {Reader: "rows.weight_hh_l0", Gated: "both.weight", Folded: "first.weight"}[kind]
    expected = raise_least(cosines(run(ours), run(theirs), 0 if kind is Gated else 1))
    assert found.total(find_dim(net, tensor)) == pytest.approx(expected, abs=1e-5)
    for name in net.dims:
        if {s.tensor for s in net.dims[name].slots} == {"left", "right"}:
            assert found.total(name) == pytest.approx(np.ones(4))  # the same for all inputs


def test_dead_channels_count_as_nothing_and_one_domain_twice_as_one() -> None:
    torch.manual_seed(0)
    model = shake(Residual())
    with torch.no_grad():
        model.a1.weight[2], model.a1.bias[2] = 0.0, -1.0
    net = trace(model, (torch.zeros(1, 3, 8, 8),), step=1)
    ours = draw(9, 3, 8, 8)
    found = score(net, cut(ours), None, "domain_shift", task=make_target(ours))
    name = find_dim(net, "a1.weight")
    expected = np.ones(6)
    expected[2] = 0.0
    assert found.total(name) == pytest.approx(expected, abs=1e-6)
    again = score(net, cut(ours), None, "domain_shift", task=make_target(ours))
    assert all(np.array_equal(found.total(n), again.total(n)) for n in net.dims)


def test_what_cannot_be_compared_is_refused() -> None:
    net = trace(Residual(), (torch.zeros(1, 3, 8, 8),))
    batches = cut(draw(8, 3, 8, 8))
    with pytest.raises(PrunerError, match=r"second domain.*--target-data"):
        score(net, batches, None, "domain_shift")
    with pytest.raises(PrunerError, match="inputs of both must have one size"):
        score(net, batches, None, "domain_shift", task=make_target(draw(4, 3, 12, 12)))
    mixed = [*batches, (draw(8, 3, 12, 12), None)]
    with pytest.raises(PrunerError, match="all inputs must have one size"):
        score(net, mixed, None, "domain_shift", task=make_target(draw(4, 3, 8, 8)))
    with pytest.raises(PrunerError, match="needs data"):
        score(net, None, None, "domain_shift", task=make_target(draw(4, 3, 8, 8)))
    broken = draw(4, 3, 8, 8)
    broken[1] = float("nan")
    with pytest.raises(PrunerError, match=r"second domain's samples.*not finite"):
        score(net, batches, None, "domain_shift", task=make_target(broken))


def test_its_order_takes_measured_curves() -> None:
    torch.manual_seed(0)
    net = trace(shake(Residual()), (torch.zeros(1, 3, 8, 8),), step=1)
    batches = [(draw(12, 3, 8, 8, seed=k), None) for k in range(4)]
    task = make_target(draw(20, 3, 8, 8, seed=9) + 0.5)
    own = score(net, batches, None, "domain_shift", task=task)
    found = score(net, batches, None, "domain_shift", task=task, curves="measured")
    assert found.criterion == "domain_shift, measured curves" and set(found.blocks) == {*net.blocks}
    for name in net.dims:
        order = [np.argsort(-one.total(name), kind="stable").tolist() for one in (own, found)]
        assert order[0] == order[1] and found.loss_curves[name][0] > 0


def test_a_run_is_scored_by_two_domains(tmp_path: Path, monkeypatch, capsys) -> None:
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    dice = np.random.default_rng(0)
    for k in range(6):
        pixels = dice.integers(0, 255, (16, 16, 3), np.uint8)
        save(tmp_path / "other", f"{k}.png", pixels)
    run = restore_run(tmp_path)
    solve = ("solve", str(run), "--budget", "75%", "--no-check", "--images", "24")
    shift = (*solve, "--criterion", "domain_shift")
    assert main([*shift]) == 2 and "--target-data" in capsys.readouterr().err
    assert main([*shift, "--target-data", "other"]) == 0
    first = Importance.load(run / "importance.safetensors")
    assert first.criterion == "domain_shift" and not first.loss_curves
    assert main([*shift, "--target-data", "other", "--curves", "measured"]) == 0
    second = Importance.load(run / "importance.safetensors")
    assert second.criterion == "domain_shift, measured curves" and second.loss_curves
    assert RunFolder(run).read_state()["config"]["score"]["curves"] == "measured"
    assert main([*shift, "--curves", "some"]) == 2
    assert "curves" in capsys.readouterr().err
