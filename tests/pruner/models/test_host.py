"""A part judged by its whole: calls, outputs, scores and tuning against the whole itself."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import pruner
from pruner.data import wrap_datasets
from pruner.models import Host, PartTask, splice
from pruner.tasks import NetworkCalls, Segmentation, Task
from pruner.tuning import Recipe, evaluate, finetune

from ..segments import SIZE, Segmenter, draw_tensors


class Twice(nn.Module):
    """Calls its part on two scales; it may write over what it hands over and what it gets."""

    writes = False

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1)
        )
        self.alias = self.part
        self.head = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x * 1.0
        first = self.part(x)
        if self.writes:
            first.relu_()
            x.mul_(0.5)
        second = self.alias(x[..., ::2, ::2])
        return self.head(first.mean((2, 3)) + second.mean((2, 3)))


@pytest.fixture(scope="module")
def twice():
    torch.manual_seed(0)
    model = Twice().eval()
    net = pruner.trace(model.part, (torch.zeros(1, 3, 8, 8),))
    return model, net, PartTask(Task(), Host(model, "part"))


def test_the_calls_of_a_part_are_those_of_the_whole(twice) -> None:
    model, net, task = twice
    images = torch.randn(3, 3, 8, 8)
    model.writes = task.host.model.writes = True
    calls = NetworkCalls.record(task, net.module, [(images, None)])
    assert calls.counts == (2,)
    (first,), (second,) = calls.arguments
    assert torch.equal(first, images) and torch.equal(second, images[..., ::2, ::2] / 2)
    with torch.no_grad():
        results = [net.module(first), net.module(second)]
        kept = results[0].clone()
        (outputs,) = calls.complete(results)
        torch.testing.assert_close(outputs, model(images))
        torch.testing.assert_close(task.forward(net.module, images), model(images))
    assert torch.equal(results[0], kept)
    assert model.part is model.alias and task.host.model.part is task.host.part


def test_a_part_called_twice_is_scored_and_repaired_by_the_whole(twice) -> None:
    model, net, task = twice
    model.writes = task.host.model.writes = False
    torch.manual_seed(1)
    batches = [(torch.randn(8, 3, 8, 8), torch.randint(0, 5, (8,))) for _ in range(8)]
    whole = pruner.trace(model, (torch.zeros(2, 3, 8, 8),))
    (dim,) = net.dims.values()
    same = next(d for d in whole.dims.values() if d.size == 8)
    loss = nn.functional.cross_entropy
    for criterion in ("measured", "taylor"):
        ours = pruner.score(net, batches, loss, criterion, task=task)
        theirs = pruner.score(whole, batches, loss, criterion)
        assert ours.total(dim.name) == pytest.approx(theirs.total(same.name), rel=1e-3)
        for name, curve in ours.loss_curves.items():
            assert name == dim.name and curve[0] > 0
            assert curve == pytest.approx(theirs.loss_curves[same.name], rel=1e-3)
    plan = pruner.Plan({dim.name: tuple(range(5))}, {})
    small = pruner.apply(net, plan)
    before = small_divergence(task, small, net, batches)
    assert pruner.repair(small, net, plan, batches, task=task)
    assert small_divergence(task, small, net, batches) < before


def small_divergence(task, small, net, batches) -> float:
    with torch.no_grad():
        parts = [
            task.divergence(task.forward(small, x), task.forward(net.module, x)).mean
            for x, _ in batches
        ]
    return float(torch.stack(parts).mean())


def test_a_backbone_is_tuned_through_its_segmenter() -> None:
    torch.manual_seed(0)
    data = wrap_datasets((draw_tensors(24), draw_tensors(8, 2)))
    model = Segmenter().eval()
    finetune(model, None, data, 6, task=Segmentation(), recipe=Recipe(batch=8, lr=0.1, distill=0.0))
    before = copy.deepcopy(model.state_dict())
    net = pruner.trace(model.backbone, (torch.zeros(1, 3, SIZE, SIZE),))
    task = PartTask(Segmentation(data), Host(model, "backbone"))
    batches = list(data.train(8, augment=False))
    scores = pruner.score(net, batches, None, "measured", task=task)
    plan = pruner.Plan.random(net, macs=0.3, seed=1).refill(scores)
    small = pruner.apply(net, plan)
    cut = evaluate(small, data.test(), task)
    history = finetune(small, net.module, None, 4, task=task, recipe=Recipe(batch=8, lr=0.05))
    assert history.epochs[-1].test_loss < cut.loss
    whole = splice(model, "backbone", small)
    alone = evaluate(whole, data.test(), Segmentation())
    assert alone.value == pytest.approx(history.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(hasattr(small, name) for name in ("out_channels",))
