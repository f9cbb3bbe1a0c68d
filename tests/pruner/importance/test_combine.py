"""Scores of several tasks as one: against the sets that DiSparse keeps, and by hand."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from pruner.errors import PrunerError
from pruner.importance.combine import combine_importances
from pruner.importance.score import score
from pruner.models import Host, PartTask
from pruner.structure.importance import Importance
from pruner.structure.plan import Plan
from pruner.structure.trace import trace
from pruner.tasks import Classification, GuardedTask, Several, Task, make_task

from ..networks import shake


class Forked(nn.Module):
    """A shared layer, and a head with a hidden layer of its own for each of two tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Conv2d(3, 12, 3, padding=1)
        self.kind1, self.kind2 = nn.Conv2d(12, 8, 1), nn.Linear(8, 4)
        self.size1, self.size2 = nn.Conv2d(12, 10, 1), nn.Linear(10, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = torch.relu(self.shared(x))
        kind = torch.relu(self.kind1(x)).mean((2, 3))
        size = torch.relu(self.size1(x)).mean((2, 3))
        return {"kind": self.kind2(kind), "size": self.size2(size)}


def fork(weight: float = 1.0):
    torch.manual_seed(0)
    net = trace(shake(Forked()), (torch.zeros(1, 3, 8, 8),), step=1)
    size = make_task(loss=mse_loss, name="size")
    task = Several({"kind": Classification(), "size": size}, weights={"size": weight})
    dice = torch.Generator().manual_seed(1)
    batches = [
        (
            torch.randn(12, 3, 8, 8, generator=dice),
            {
                "kind": torch.randint(0, 4, (12,), generator=dice),
                "size": torch.randn(12, 1, generator=dice),
            },
        )
        for _ in range(4)
    ]
    return net, task, batches


def random_scores(seed: int, tasks: int = 3) -> dict[str, Importance]:
    dice = np.random.default_rng(seed)
    sizes = {"a": 5, "b": 3, "c": 4}
    return {
        f"t{k}": Importance(
            "x", {d: {"": dice.exponential(1 + 9 * k, n)} for d, n in sizes.items()}
        )
        for k in range(tasks)
    }


def join(scores: Importance) -> np.ndarray:
    return np.concatenate([scores.total(dim) for dim in scores.parts])


@pytest.mark.parametrize("seed", range(6))
def test_thresholds_on_ranks_are_what_the_union_of_top_k_keeps_for_every_k(seed: int) -> None:
    found = random_scores(seed)
    combined = join(combine_importances(found, "ranks"))
    count = len(combined)
    for k in range(1, count + 1):
        union = set()
        for one in found.values():
            union |= set(np.argsort(-join(one))[:k].tolist())
        assert union == set(np.flatnonzero(combined >= (count - k) / count - 1e-12).tolist())


def test_worth_is_the_largest_share_the_sum_of_shares_or_the_largest_loss() -> None:
    found = random_scores(0)
    rows = np.array([join(one) for one in found.values()])
    shares = rows / rows.sum(1, keepdims=True)
    for how, expected in (
        ("unanimous", shares.max(0)), ("sum", shares.sum(0)), ("max", rows.max(0)),
    ):  # fmt: skip
        assert join(combine_importances(found, how)) == pytest.approx(expected)


def test_curves_blocks_and_cells_are_combined_too() -> None:
    first = Importance("m", {"d": {"p": np.array([1.0, 0, 0]), "q": np.array([1.0, 1, 0])}},
                       {"b": 2.0}, {"d": np.array([6.0, 3, 0])})  # fmt: skip
    second = Importance("m", {"d": {"p": np.array([0.0, 0, 4]), "q": np.array([0.0, 1, 0])}},
                        {"b": -1.0}, {"d": np.array([2.0, 1.8, 0])})  # fmt: skip
    found = combine_importances({"x": first, "y": second}, "unanimous")  # units 1/8, 1/2
    assert found.loss_curves["d"] == pytest.approx([1.0, 0.9, 0]) and found.blocks["b"] == 0.25
    assert found.parts["d"]["p"] == pytest.approx([0.125, 0, 2])
    assert found.parts["d"]["q"] == pytest.approx([0.125, 0.5, 0])
    total = combine_importances({"x": first, "y": second}, "sum")
    assert total.loss_curves["d"] == pytest.approx([1.75, 1.275, 0])
    assert total.blocks["b"] == pytest.approx(2 / 8 - 1 / 2)
    assert total.parts["d"]["p"] == pytest.approx([0.125, 0, 2])
    with pytest.raises(PrunerError, match="ranks are of indices"):
        combine_importances({"x": first, "y": second}, "ranks")
    nothing = Importance("m", {"d": {"": np.zeros(3)}})
    with pytest.raises(PrunerError, match="'y' scores nothing above zero"):
        combine_importances({"x": Importance("m", {"d": {"": np.ones(3)}}), "y": nothing}, "sum")


@pytest.mark.parametrize("criterion", ["taylor", "taylor_read", "fisher", "hessian"])
def test_every_task_is_scored_by_its_own_loss_and_heads_by_theirs_alone(criterion: str) -> None:
    net, task, batches = fork(weight=7.0)
    found = score(net, batches, None, criterion, task=task, combine="unanimous")

    def one_loss(name, loss, outputs, targets):
        return loss(outputs[name], targets[name])

    alone = {}
    for name, loss in (("kind", cross_entropy), ("size", mse_loss)):
        alone[name] = score(net, batches, partial(one_loss, name, loss), criterion)
    totals = {k: sum(one.total(d).sum() for d in net.dims) for k, one in alone.items()}
    for dim in net.dims:
        shares = {k: one.total(dim) / totals[k] for k, one in alone.items()}
        head = dim.removesuffix("1")
        if head in shares:
            (other,) = set(shares) - {head}
            assert not shares[other].any() and found.total(dim) == pytest.approx(
                shares[head], rel=1e-4
            )
        assert found.total(dim) == pytest.approx(np.maximum(*shares.values()), rel=1e-4)


@pytest.mark.parametrize("how", ["unanimous", "sum", "max"])
def test_measured_curves_are_each_task_s_divergence(how: str) -> None:
    net, task, batches = fork()
    found = score(net, batches, None, "measured", task=task, combine=how)
    alone = [score(net, batches, None, "measured", task=task.take(k)) for k in ("kind", "size")]
    units = [
        1 / (sum(c[0] for c in one.loss_curves.values()) + sum(one.blocks.values()))
        if how != "max" else 1.0
        for one in alone
    ]  # fmt: skip
    for dim in net.dims:
        curves = [u * one.loss_curves[dim] for u, one in zip(units, alone)]
        expected = np.sum(curves, 0) if how == "sum" else np.max(curves, 0)
        assert found.loss_curves[dim] == pytest.approx(expected)
        orders = {tuple(np.argsort(-one.total(dim), kind="stable")) for one in (found, *alone)}
        assert len(orders) == 1
    assert Plan.random(net, macs=0.5, seed=0).refill(found)


def test_an_order_by_tasks_takes_curves_by_tasks() -> None:
    net, task, batches = fork()
    order = score(net, batches, None, "taylor", task=task, combine="unanimous")
    found = score(net, batches, None, "taylor", task=task, combine="unanimous", curves="measured")
    assert found.criterion == "taylor, unanimous over kind, size, measured curves"
    for dim in net.dims:
        assert np.array_equal(
            *(np.argsort(-one.total(dim), kind="stable") for one in (order, found))
        )
    plain = score(net, batches, None, "magnitude", task=task, combine="sum", curves="measured")
    assert set(plain.loss_curves) == set(net.dims)


def test_wrapped_tasks_are_taken_apart() -> None:
    net, task, batches = fork()
    expected = score(net, batches, None, "taylor", task=task, combine="sum")
    found = score(net, batches, None, "taylor", task=GuardedTask(task), combine="sum")
    assert all(np.array_equal(found.total(d), expected.total(d)) for d in net.dims)
    assert Task().split() == {} and GuardedTask(Task()).split() == {}


def test_batches_that_lack_a_task_s_targets_say_nothing_of_it() -> None:
    net, task, batches = fork()
    both = [(x, {k: v}) for x, targets in batches for k, v in targets.items()]
    expected = score(net, batches, None, "taylor", task=task, combine="unanimous")
    found = score(net, both, None, "taylor", task=task, combine="unanimous")
    assert all(found.total(d) == pytest.approx(expected.total(d), rel=1e-5) for d in net.dims)
    with pytest.raises(PrunerError, match="'size' scores nothing above zero"):
        score(net, both[::2], None, "taylor", task=task, combine="unanimous")


def test_what_cannot_be_combined_is_refused() -> None:
    net, task, batches = fork()
    for one, words in (
        (None, "only one: none"), (Classification(), "only one: classification"),
        (Several({"kind": Classification()}), "only one: kind"),
    ):  # fmt: skip
        with pytest.raises(PrunerError, match=words):
            score(net, batches, None, "taylor", task=one, combine="unanimous")
    with pytest.raises(PrunerError, match="expected unanimous, ranks, sum, max, got 'all'"):
        score(net, batches, None, "taylor", task=task, combine="all")
    for criterion in ("magnitude", "activation", "reconstruction"):
        with pytest.raises(PrunerError, match="does not look at losses"):
            score(net, batches, None, criterion, task=task, combine="unanimous")
    with pytest.raises(PrunerError, match="loss of its own"):
        score(net, batches, lambda o, t: 0, "taylor", task=task, combine="unanimous")
    plain = Several({"kind": Classification(), "size": Task()})
    with pytest.raises(PrunerError, match="'size' has no loss"):
        score(net, batches, None, "taylor", task=plain, combine="unanimous")


@pytest.mark.parametrize("criterion", ["taylor", "measured"])
def test_a_shared_part_is_scored_by_the_whole_s_tasks(criterion: str) -> None:
    _, task, batches = fork()
    torch.manual_seed(0)
    model = shake(Forked())
    part = trace(model.shared, (torch.zeros(1, 3, 8, 8),), step=1)
    assert not part.dims  # a layer whose outputs leave the part stays whole
    model = Deep(model)
    part = trace(model.body, (torch.zeros(1, 3, 8, 8),), step=1)
    whole = PartTask(task, Host(model, "body"))
    assert {name: one.name for name, one in whole.split().items()} == dict.fromkeys(
        ("kind", "size"), "several"
    )
    found = score(part, batches, None, criterion, task=whole, combine="unanimous")
    alone = [
        score(part, batches, None, criterion, task=PartTask(task.take(k), Host(model, "body")))
        for k in ("kind", "size")
    ]
    expected = combine_importances(dict(zip(("kind", "size"), alone)), "unanimous")
    for name in part.dims:
        assert found.total(name) == pytest.approx(expected.total(name), rel=1e-5)
        assert found.total(name).any()


class Deep(nn.Module):
    """A network of two tasks behind a body with a layer of its own."""

    def __init__(self, heads: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 9, 1), nn.ReLU(), nn.Conv2d(9, 3, 1))
        self.heads = heads

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return self.heads(self.body(x))
