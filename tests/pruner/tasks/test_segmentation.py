"""Segmentation: loss and metric against direct computation, and a network that learns."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, interpolate

import pruner
from pruner.data import wrap_datasets
from pruner.errors import PrunerError
from pruner.tasks import Segmentation
from pruner.tuning import Recipe, evaluate, finetune

from ..segments import CLASSES, SIZE, Segmenter, draw_tensors


def some_batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(3)
    masks = torch.randint(0, CLASSES, (4, 6, 8))
    masks[0, :2] = 255
    return torch.randn(4, CLASSES, 6, 8), masks


def test_the_loss_is_the_mean_over_pixels_that_count() -> None:
    scores, masks = some_batch()
    task = Segmentation()
    rows = scores.permute(0, 2, 3, 1)[masks != 255]
    expected = cross_entropy(rows, masks[masks != 255])
    outputs = task.read({"out": scores, "aux": 2 * scores})
    double = cross_entropy(2 * rows, masks[masks != 255])
    assert task.mean_loss(outputs, masks) == pytest.approx((expected + 0.5 * double).item())
    total = task.total_loss(outputs, masks)
    assert total.count == len(rows) and total.mean == pytest.approx(expected.item())
    coarse = task.read(scores[..., ::2, ::2])
    wide = interpolate(scores[..., ::2, ::2], (6, 8), mode="bilinear")
    assert task.mean_loss(coarse, masks) == pytest.approx(
        task.mean_loss(task.read(wide), masks).item()
    )


def test_the_metric_is_that_of_torchmetrics_over_batches_and_processes() -> None:
    torchmetrics = pytest.importorskip("torchmetrics")
    scores, masks = some_batch()
    masks[masks == 2] = 0  # a class that is found, and never there
    oracle = torchmetrics.classification.MulticlassJaccardIndex(CLASSES, ignore_index=255)
    expected = oracle(scores, masks).item()
    task = Segmentation()
    parts = [task.metric(), task.metric()]
    for metric, some in zip(parts, (slice(1), slice(1, 4)), strict=True):
        metric.update(task.read(scores[some]), masks[some])
    whole = task.metric()
    for part in parts:
        whole.merge(part.state())
    assert whole.compute() == pytest.approx(expected)
    assert whole.kind.format(0.123) == "12.3%" and whole.kind.key == "mean_iou"
    with pytest.raises(PrunerError, match="no pixel counts"):
        task.metric().compute()


@pytest.mark.parametrize(
    ("scores", "masks", "words"),
    [
        (torch.zeros(2, 3), torch.zeros(2).long(), r"scores \[n, classes, H, W\]"),
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 4, 4).long(), "do not fit"),
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4), "whole numbers"),
        (torch.zeros(2, 3, 4, 4), torch.full((2, 4, 4), 7), "from 7 to 7"),
    ],
)
def test_targets_that_do_not_fit_are_said(scores, masks, words: str) -> None:
    task = Segmentation()
    with pytest.raises(PrunerError, match=words):
        task.check(task.read(scores), masks)


@pytest.fixture(scope="module")
def trained():
    """A trained segmenter, traced, and its task."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    task = Segmentation(wrap_datasets((draw_tensors(32), draw_tensors(12, 2))))
    model = Segmenter().eval()
    recipe = Recipe(batch=8, lr=0.1, distill=0.0, evaluate_every=0)
    finetune(model, None, None, 8, task=task, recipe=recipe)
    return task, pruner.trace(model, (torch.zeros(1, 3, SIZE, SIZE),))


def test_every_step_works_and_wins_back(trained) -> None:
    task, net = trained
    batches = list(task.data.train(8, augment=False))
    dense = evaluate(net.module, task.data.test(), task)
    assert dense.value > 0.6 and dense.metric.name == "mean IoU" and np.isfinite(dense.loss)
    for criterion in ("measured", "taylor", "taylor_sample", "hessian"):
        scores = pruner.score(net, batches, None, criterion, task=task)
        assert any(scores.total(name).max() > 0 for name in net.dims), criterion
    plan = pruner.Plan.random(net, macs=0.15, seed=1, drop_blocks=0.0).refill(scores)
    small = pruner.apply(net, plan)
    cut = evaluate(small, task.data.test(), task)
    assert pruner.repair(small, net, plan, batches, task=task)
    repaired = evaluate(small, task.data.test(), task)
    assert repaired.loss < cut.loss
    recipe = Recipe(batch=8, lr=0.05, recalibrate=0)
    history = finetune(small, net.module, None, 6, task=task, recipe=recipe)
    assert history.value > max(cut.value, 0.9 * dense.value)
    assert history.epochs[-1].test_loss < repaired.loss
    assert history.metric.name == "mean IoU" and history.epochs[0].value is None


def test_masks_are_not_needed_to_distil(trained) -> None:
    task, net = trained
    unlabelled = pruner.make_task(
        data=task.data, read=lambda found: found["out"], divergence="scores"
    )
    student = copy.deepcopy(net.module)
    with torch.no_grad():
        student.backbone.conv1.weight.mul_(0.5)
    before = evaluate(student, task.data.test(), unlabelled, dense=net.module)
    finetune(student, net.module, None, 3, task=unlabelled, recipe=Recipe(batch=8, lr=0.02))
    after = evaluate(student, task.data.test(), unlabelled, dense=net.module)
    assert after.value < before.value and not after.metric.higher_is_better
    assert evaluate(net.module, task.data.test(), unlabelled, dense=net.module).value < 1e-6
