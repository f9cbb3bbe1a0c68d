"""Solution paths against the inclusion in numpy and a search written out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from pruner.errors import PrunerError
from pruner.gates import gate_network
from pruner.importance import solution_path
from pruner.importance.inclusion import MaskPath
from pruner.importance.score import score
from pruner.importance.solution_path import SolutionPath
from pruner.problem.objective import objective_value
from pruner.structure.trace import trace
from pruner.tasks import make_task

from ..networks import Attention, Residual, shake


def residual(classes: int = 5):
    torch.manual_seed(0)
    net = trace(shake(Residual()).double(), (torch.zeros(1, 3, 8, 8).double(),), step=1)
    dice = torch.Generator().manual_seed(1)
    batches = [
        (torch.randn(8, 3, 8, 8, generator=dice).double(),
         torch.randint(0, classes, (8,), generator=dice))
        for _ in range(4)
    ]  # fmt: skip
    return net, batches


def follow(masks: np.ndarray, rate: float, threshold: float) -> tuple[np.ndarray, ...]:
    """The inclusion, index by index: [steps, indices] masks -> dual, copy and time of entry."""
    dual, copy, entry = (np.zeros(masks.shape[1]) for _ in range(3))
    entry[:] = np.inf
    for step, row in enumerate(masks):
        for i, mask in enumerate(row):
            before = dual[i]
            dual[i] += rate * (mask - copy[i])
            shrunk = max(0.0, 1 - threshold / abs(dual[i])) * dual[i] if dual[i] else 0.0
            copy[i] = max(shrunk, 0.0)
            if copy[i] > 0 and np.isinf(entry[i]):
                entry[i] = step + (threshold - before) / (dual[i] - before)
    return dual, copy, entry


def test_the_inclusion_is_that_of_the_paper_step_by_step() -> None:
    dice = np.random.default_rng(0)
    masks = 1 + 0.4 * dice.standard_normal((60, 9)).cumsum(0) / 7
    masks[:, 0], masks[:, 1] = -0.5, 1.0
    path = MaskPath.begin(9)
    for row in masks:
        path = path.advance(torch.from_numpy(row), 0.1, 3.0)
    dual, copy, entry = follow(masks, 0.1, 3.0)
    assert path.step == 60
    for ours, theirs in ((path.dual, dual), (path.sparse, copy), (path.entry, entry)):
        assert ours.numpy() == pytest.approx(theirs, rel=1e-12, abs=1e-12)
    assert path.entry[1] == pytest.approx(30) and path.entry[0] == float("inf")
    ranked = path.rank(3.0).numpy()
    assert ranked.min() >= 0 and ranked[0] == 0.0
    entered = np.isfinite(entry)
    assert (
        entered.any() and not entered.all() and ranked[entered].min() >= 1 > ranked[~entered].max()
    )
    assert np.array_equal(np.argsort(-ranked[entered]), np.argsort(entry[entered]))


def search_by_hand(net, batches, rule: SolutionPath, order: list[int]) -> np.ndarray:
    """Entries of all indices: gates by functional calls, AdamW and the inclusion in numpy."""
    gated = gate_network(net, blocks=())
    sizes = [dim.size for dim in net.dims.values()]
    keys = [name for name, _ in gated.named_parameters() if name.startswith("gates.")]

    def differentiate(values: np.ndarray, batch) -> np.ndarray:
        parts = [torch.from_numpy(p).requires_grad_(True)
                 for p in np.split(values, np.cumsum(sizes)[:-1])]  # fmt: skip
        outputs = functional_call(gated, dict(zip(keys, parts)), (batch[0],))
        found = torch.autograd.grad(cross_entropy(outputs, batch[1]), parts)
        return np.concatenate([g.numpy() for g in found])

    masks = np.ones(sum(sizes))
    tries = [differentiate(0.9 * masks, batches[k]) for k in order[:4]]
    strength = rule.coupling * np.mean([np.abs(g).mean() for g in tries])
    mean, square, rows = np.zeros(len(masks)), np.zeros(len(masks)), []
    copy = np.zeros(len(masks))
    for step, k in enumerate(order, 1):
        gradient = differentiate(masks, batches[k]) + strength * (masks - copy)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        ahead = (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
        masks = masks - rule.lr * ahead
        rows.append(masks)
        _, copy, entry = follow(np.array(rows), rule.dual_rate, rule.threshold)
    return entry


@pytest.mark.parametrize("form", ["coupled", "released"])
def test_a_search_is_the_one_by_hand(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, batches = residual()
    rule = SolutionPath(form=form, steps=24, lr=0.03, first_entry=0.4)
    drawn: list[int] = []
    compute = solution_path._Question.compute_loss

    def note(self, module, number):
        drawn.append(number)
        return compute(self, module, number)

    monkeypatch.setattr(solution_path._Question, "compute_loss", note)
    found = score(net, batches, cross_entropy, rule, curves="own")
    order = drawn[4:] if form == "coupled" else drawn
    assert len(order) == 24 and all({*order[k : k + 4]} == {0, 1, 2, 3} for k in range(0, 24, 4))
    entry = search_by_hand(net, batches, rule, order)
    assert np.isfinite(entry).any() and len({*entry[np.isfinite(entry)]}) > 5
    ours = np.concatenate([found.total(name) for name in net.dims])
    entered = np.isfinite(entry)
    assert ours[entered] == pytest.approx(2 - entry[entered] / 24, rel=1e-6)
    assert (ours[~entered] < 1).all()


class Scaled(nn.Module):
    """Channels that do not mix: the loss of a mask m is c^2 (m - 1)^2, and no other's matters."""

    def __init__(self, scales: torch.Tensor) -> None:
        super().__init__()
        self.first = nn.Linear(len(scales), len(scales), bias=False)
        self.head = nn.Linear(len(scales), len(scales), bias=False)
        with torch.no_grad():
            self.first.weight.copy_(torch.eye(len(scales)))
            self.head.weight.copy_(torch.diag(scales))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.first(x))


@pytest.mark.parametrize("with_loss", [False, True])
def test_where_channels_do_not_mix_the_order_is_that_of_their_curvature(with_loss: bool) -> None:
    scales = torch.tensor([0.7, 0.0, 2.0, 0.4, 1.2, 0.2])
    net = trace(Scaled(scales), (torch.zeros(1, 6),), step=1)
    rows = torch.cat([torch.eye(6), -torch.eye(6)])
    batches = [(rows, rows * scales)] * 2
    task = make_task(divergence="values")
    loss = nn.functional.mse_loss if with_loss else None
    found = score(net, batches, loss, SolutionPath(steps=100, lr=0.02), task=task, curves="own")
    (name,) = net.dims
    assert np.argsort(found.total(name)).tolist() == scales.argsort().tolist()


def test_blocks_hold_their_part() -> None:
    net, batches = residual()
    found = score(net, batches, None, SolutionPath(steps=20, lr=0.02), curves="own")
    dropped = tuple(n for n, b in net.blocks.items() if b.skip.startswith("relu"))
    assert dropped and objective_value(net, found, {}, dropped) < objective_value(net, found)


def test_by_default_its_order_gets_measured_curves() -> None:
    net, batches = residual()
    rule = SolutionPath(steps=20, lr=0.02)
    own = score(net, batches, cross_entropy, rule, curves="own")
    told: list[int] = []
    found = score(net, batches, cross_entropy, rule, lambda done, total: told.append(done))
    assert not own.loss_curves and own.criterion == "path"
    assert found.criterion == "path, measured curves" and set(found.blocks) == {*net.blocks}
    assert told[:20] == list(range(1, 21)) and len(told) > 20
    for name in net.dims:
        assert np.array_equal(
            *(np.argsort(-one.total(name), kind="stable") for one in (own, found))
        )


class Stopped(Exception):
    """Ends a search in its middle."""


@pytest.mark.parametrize("stops", [(7,), (20, 33), (45, 3, 61)])
def test_a_search_that_was_stopped_goes_on_to_the_same_scores(stops, tmp_path: Path) -> None:
    net, batches = residual()
    expected = score(net, batches, cross_entropy, SolutionPath(steps=65, lr=0.02), curves="own")
    rule = SolutionPath(steps=65, lr=0.02, journal=tmp_path)
    done: list[int] = []
    for stop in stops:

        def count(step: int, total: int | None, stop: int = stop) -> None:
            done.append(step)
            if step >= stop:
                raise Stopped

        with pytest.raises(Stopped):
            score(net, batches, cross_entropy, rule, count, curves="own")
    first: list[int] = []
    found = score(net, batches, cross_entropy, rule, lambda k, _: first.append(k), curves="own")
    assert first[0] == 1 + max(done) // 20 * 20
    assert all(np.array_equal(found.total(n), expected.total(n)) for n in net.dims)
    (file,) = tmp_path.iterdir()
    score(net, batches, cross_entropy, SolutionPath(steps=21, lr=0.02, journal=tmp_path))
    assert len([*tmp_path.iterdir()]) == 2  # of other settings: another search
    file.write_bytes(b"broken")
    again = score(net, batches, cross_entropy, rule, curves="own")
    assert all(np.array_equal(again.total(n), expected.total(n)) for n in net.dims)


def test_tokens_heads_and_tasks_without_labels() -> None:
    torch.manual_seed(0)
    net = trace(Attention(), (torch.zeros(1, 3, 16, 16),), step=1)
    before = {k: v.clone() for k, v in net.module.state_dict().items()}
    batches = [(torch.randn(6, 3, 16, 16), None) for _ in range(4)]
    found = score(net, batches, None, SolutionPath(steps=15, lr=0.02), task=make_task())
    assert all(found.loss_curves[name][0] > 0 for name in net.dims)
    assert all(torch.equal(v, before[k]) for k, v in net.module.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in net.module.parameters())


class Middling(nn.Module):
    """A layer whose channels meet in a median, which has no gates, behind one that has them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 7)
        self.head = nn.Linear(7, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.second(torch.relu(self.first(x))))
        return self.head(x) + x.median(1, keepdim=True)[0]


def test_dims_without_gates_keep_the_order_of_measured_ones() -> None:
    torch.manual_seed(0)
    net = trace(Middling(), (torch.zeros(1, 4),), step=1)
    batches = [(torch.randn(8, 4), torch.randint(0, 3, (8,))) for _ in range(4)]
    able = [name for name in net.dims if name.startswith("first")]
    assert len(able) == 1 and len(net.dims) == 2
    plain = score(net, batches, None, "measured")
    found = score(net, batches, cross_entropy, SolutionPath(steps=5))
    for name in {*net.dims} - {*able}:
        assert np.array_equal(found.total(name), plain.total(name))
    with pytest.raises(PrunerError, match=r"no scores of its own.*--curves measured"):
        score(net, batches, cross_entropy, SolutionPath(steps=5), curves="own")


def test_misuse_is_told() -> None:
    net, batches = residual()
    with pytest.raises(PrunerError, match="expected coupled or released"):
        SolutionPath(form="paired")
    with pytest.raises(PrunerError, match="steps 0: expected a number above 0"):
        SolutionPath(steps=0)
    with pytest.raises(PrunerError, match="needs a loss"):
        score(net, batches, None, SolutionPath(form="released"))
    with pytest.raises(PrunerError, match="needs data"):
        score(net, None, None, "path")
    with pytest.raises(PrunerError, match="empty"):
        score(net, [], cross_entropy, "path")
    with pytest.raises(PrunerError, match="not finite"):
        score(net, batches, lambda o, t: o.sum() * float("nan"), SolutionPath(steps=2))
