"""Detectors of three libraries: losses, predictions, divergence, metric; targets that are wrong."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from pruner.errors import PrunerError
from pruner.graph import evaluation_mode
from pruner.tasks import Detection
from pruner.tasks.box_divergence import PredictionGroup, compare_predictions
from pruner.tasks.detectors import find_detector

from ..scenes import SIZE, draw_batch, make_rcnn, make_retina, make_ssd

MAKERS = {
    "ssd": (make_ssd, {"classification", "bbox_regression"}),
    "retina": (make_retina, {"classification", "bbox_regression"}),
    "rcnn": (
        make_rcnn,
        {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"},
    ),
    "keypoints": (
        lambda: make_rcnn(keypoints=True),
        {
            "loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg",
            "loss_keypoint",
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MAKERS)
def test_torchvisions_detectors_are_called_as_they_are(name: str) -> None:
    make, losses = MAKERS[name]
    torch.manual_seed(0)
    model, (images, targets) = make().eval(), draw_batch()
    modes = {m: m.training for m in model.modules()}
    task = Detection()
    found = task.forward(model, images, targets)
    assert set(task.loss(found, targets)) == losses
    again = task.forward(model, images, targets)
    assert all(torch.equal(v, again["losses"][k]) for k, v in found["losses"].items())
    task.mean_loss(found, targets).backward()
    assert all(p.grad is not None for p in model.get_submodule("backbone").parameters())
    with torch.no_grad():
        detections = task.forward(model, images, targets)["detections"]
        expected = model(list(images))
        predictions = task.forward(model, images)["predictions"]
    assert {k: m for k, m in modes.items()} == {m: m.training for m in model.modules()}
    for ours, theirs in zip(detections, expected, strict=True):
        assert torch.equal(ours["boxes"], theirs["boxes"])
        assert torch.equal(ours["labels"], theirs["labels"])
    assert all(len(value) == len(images) for value in predictions.values())
    assert task.classes == 2
    same = task.divergence({"predictions": predictions}, {"predictions": predictions})
    assert float(same.value) == pytest.approx(0, abs=1e-6) and same.count == len(images)
    noise = {k: v + 0.1 * torch.randn_like(v) for k, v in predictions.items()}
    assert float(task.divergence({"predictions": noise}, {"predictions": predictions}).mean) > 0


def test_every_layer_of_the_second_stage_is_compared() -> None:
    torch.manual_seed(0)
    model, (images, _) = make_rcnn(keypoints=True).eval(), draw_batch()
    task = Detection()
    with torch.no_grad():
        dense = task.forward(model, images)
        for path in ("backbone.stem.0.0", "rpn.head.conv.0.0", "roi_heads.box_head.fc7",
                     "roi_heads.keypoint_head.2"):  # fmt: skip
            weight = model.get_submodule(path).weight
            kept = weight.clone()
            weight.mul_(0.5)
            found = task.forward(model, images)
            assert float(task.divergence(found, dense).mean) > 1e-9, path
            weight.copy_(kept)


def test_the_divergence_is_that_of_the_objects_that_are_expected() -> None:
    torch.manual_seed(0)
    dense = {"s": torch.randn(2, 5, 3), "b": torch.randn(2, 5, 4), "m": torch.randn(2, 7)}
    found = {k: v + 0.3 * torch.randn_like(v) for k, v in dense.items()}
    p, q = dense["s"].softmax(2), found["s"].log_softmax(2)
    weight = 1 - p[..., 0]
    expected = functional.kl_div(q, p, reduction="sum") / weight.sum().clamp_min(1)
    error, size = (
        sum(float(weight[n, k] * v[n, k].square().sum()) for n in range(2) for k in range(5))
        for v in (found["b"] - dense["b"], dense["b"])
    )
    rest = (found["m"] - dense["m"]).square().mean() / dense["m"].square().mean()
    total = compare_predictions(found, dense, (PredictionGroup("s", ("b",), 0),))
    assert total.count == 2
    assert float(total.mean) == pytest.approx(
        float(expected) + error / size + float(rest), rel=1e-4
    )
    alone = {"s": dense["s"]}, {"s": found["s"]}
    p = dense["s"].sigmoid()
    entropy = functional.binary_cross_entropy_with_logits
    rise = entropy(found["s"], p, reduction="sum") - entropy(dense["s"], p, reduction="sum")
    total = compare_predictions(alone[1], alone[0], (PredictionGroup("s"),))
    assert float(total.mean) == pytest.approx(float(rise / p.amax(2).sum()), rel=1e-4)


def test_a_detector_of_ones_own_says_what_to_compare() -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = make_ssd()

        def forward(self, images, targets=None):
            assert self.training == (targets is not None)
            return self.inner(images, targets)

    model, (images, targets) = Wrapped().eval(), draw_batch()
    with pytest.raises(PrunerError, match="compare"):
        find_detector(model)
    task = Detection(compare=["inner.head"])
    found = task.forward(model, images, targets)
    assert set(found["losses"]) == {"classification", "bbox_regression"} and not model.training
    assert {k.rpartition(".")[0] for k in found["predictions"]} == {"inner.head"}
    with torch.no_grad():
        assert len(task.forward(model, images, targets)["detections"]) == len(images)
    with pytest.raises(PrunerError, match="no submodule 'nothing'"):
        Detection(compare=["nothing"]).forward(model, images)


def test_a_query_detector_learns_whole_or_traced() -> None:
    transformers = pytest.importorskip("transformers")
    import pruner

    torch.manual_seed(0)
    config = transformers.YolosConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        image_size=[SIZE, SIZE], patch_size=8, num_detection_tokens=4, num_labels=2,
    )  # fmt: skip
    model, (images, targets) = transformers.YolosForObjectDetection(config).eval(), draw_batch()
    net = pruner.trace(model, (), {"pixel_values": images[:1]})
    own = type("Own", (type(model),), {})(config)
    assert type(find_detector(own)) is type(find_detector(model))
    with pytest.raises(PrunerError, match="is no detector that is known"):
        find_detector(type(type(model).__name__, (transformers.YolosModel,), {})(config))
    task = Detection(detector=find_detector(model))
    found = task.forward(net.module, images, targets)
    labels = [{"class_labels": t["labels"] - 1, "boxes": to_relative(t["boxes"])} for t in targets]
    assert float(task.mean_loss(found, targets)) == pytest.approx(
        float(model(images, labels=labels).loss), rel=1e-4
    )
    with torch.no_grad():
        (first, *_) = task.forward(net.module, images, targets)["detections"]
    assert {1, 2} >= set(first["labels"].tolist()) and first["boxes"].shape == (4, 4)


def to_relative(boxes: torch.Tensor) -> torch.Tensor:
    left, top, right, bottom = (boxes / SIZE).unbind(1)
    return torch.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], 1)


def test_a_perfect_detector_has_a_precision_of_one() -> None:
    pytest.importorskip("torchmetrics")
    _, targets = draw_batch(6)
    exact = [
        {"boxes": t["boxes"], "labels": t["labels"], "scores": torch.ones(len(t["labels"]))}
        for t in targets
    ]
    parts = [Detection().metric(), Detection().metric()]
    parts[0].update({"detections": exact[:2]}, targets[:2])
    parts[1].update({"detections": exact[2:]}, targets[2:])
    whole = Detection().metric()
    for part in parts:
        whole.merge(part.state())
    assert whole.compute() == pytest.approx(1) and whole.kind.format(0.5) == "50.0%"
    empty = Detection().metric()
    empty.update({"detections": exact[:1]}, [targets[-1]])
    with pytest.raises(PrunerError, match="none of the test images has a box"):
        empty.compute()


BOX = torch.tensor([[1.0, 1, 9, 9]])
ONE = torch.tensor([1])
WRONG = {
    "no list": (torch.zeros(1), "no boxes"),
    "too few": ([], "1 images come with the boxes of 0"),
    "no boxes": ([{"labels": ONE}], "expected tensors boxes"),
    "shape": ([{"boxes": BOX[0], "labels": ONE}], r"expected \[k, 4\]"),
    "count": ([{"boxes": BOX, "labels": torch.tensor([1, 2])}], r"expected \[k, 4\]"),
    "fractions": ([{"boxes": BOX, "labels": torch.ones(1)}], "whole numbers"),
    "no area": ([{"boxes": BOX[:, [2, 1, 0, 3]], "labels": ONE}], "left < right"),
    "NaN": ([{"boxes": BOX * math.nan, "labels": ONE}], "is no box"),
    "outside": ([{"boxes": BOX + 40, "labels": ONE}], "beyond its image of 32 x 32"),
    "class 0": ([{"boxes": BOX, "labels": ONE - 1}], "labels from 0 to 0"),
    "class 3": ([{"boxes": BOX, "labels": ONE + 2}], "expected 1 to 2"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("gradients", [True, False])
def test_targets_that_do_not_fit_are_said(case: str, gradients: bool) -> None:
    targets, words = WRONG[case]
    model = make_ssd().eval()
    with (
        pytest.raises(PrunerError, match=words),
        torch.set_grad_enabled(gradients),
        evaluation_mode(model),
    ):
        Detection().forward(model, torch.rand(1, 3, SIZE, SIZE), targets)
