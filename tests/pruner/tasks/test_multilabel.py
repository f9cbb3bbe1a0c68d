"""Multilabel: loss, divergence and metric against torch's own; tables in all forms."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.distributions import Bernoulli, kl_divergence
from torch.nn.functional import binary_cross_entropy_with_logits

from pruner.data import Preprocessing, open_label_sets
from pruner.errors import PrunerError
from pruner.tasks import Multilabel, draw_mixture

HOW = Preprocessing((8, 8))


def draw(count: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    marks = (torch.rand(count, 4, generator=rng) < 0.5).float()
    marks[:, 3] = 0  # a class that is nowhere
    marks[0, 0] = -1
    return torch.randn(count, 4, generator=rng), marks


def test_loss_and_divergence_are_torchs() -> None:
    scores, marks = draw()
    task, known = Multilabel(), marks >= 0
    expected = binary_cross_entropy_with_logits(scores[known], marks[known])
    assert task.mean_loss(scores, marks) == pytest.approx(expected.item())
    total = task.total_loss(scores, marks)
    assert total.count == 23 and total.mean == pytest.approx(expected.item())
    smooth = binary_cross_entropy_with_logits(scores[known], 0.8 * marks[known] + 0.1)
    assert task.mean_loss(scores, marks, 0.2) == pytest.approx(smooth.item())
    other = scores.flip(0)
    found = task.divergence(scores.double(), other.double(), 2.0)
    kl = kl_divergence(Bernoulli(logits=other / 2), Bernoulli(logits=scores / 2)).sum()
    assert found.value == pytest.approx(4 * kl.item(), rel=1e-4) and found.count == 24
    mixture = draw_mixture(6, 1.0, torch.device("cpu"))
    mixed = task.mix_targets(marks, scores, mixture)
    unknown = (marks < 0) | (marks[mixture.partner] < 0)
    assert torch.equal(mixed < 0, unknown) and mixed.max() <= 1
    assert task.mean_loss(scores, mixed).isfinite()


def test_the_metric_is_the_mean_over_classes_that_are_there() -> None:
    scores, marks = draw()
    parts = [Multilabel().metric(), Multilabel().metric()]
    for metric, rows in zip(parts, (slice(2), slice(2, 6)), strict=True):
        metric.update(scores[rows], marks[rows])
    parts[0].merge(parts[1].state())
    precisions = []
    for k in range(3):
        known = marks[:, k] >= 0
        order = scores[known, k].argsort(descending=True)
        hits = marks[known, k][order]
        precision = hits.cumsum(0) / torch.arange(1, len(hits) + 1)
        precisions.append(float((precision * hits).sum() / hits.sum()))
    assert parts[0].compute() == pytest.approx(np.mean(precisions), abs=1e-6)
    f1 = Multilabel(metric="f1").metric()
    f1.update(50 * (2 * marks.clamp_min(0) - 1), marks)
    assert f1.compute() == 1


FORMS = {
    "names": ("labels.csv", "image,labels\na.png,cat|dog\nb.png,\nc.png,dog\n"),
    "columns": ("labels.csv", "file_name,cat,dog\na.png,1,1\nb.png,0,0\nc.png,,1\n"),
    "plain": ("labels.csv", "a.png,cat,dog\nb.png\nc.png,dog\n"),
    "tabs": ("tags.tsv", "tags\timage\ncat;dog\ta.png\n\tb.png\ndog\tc.png\n"),
    "lines": (
        "labels.jsonl",
        '{"image": "a.png", "labels": ["cat", "dog"]}\n{"image": "b.png", "labels": []}\n'
        '{"image": "c.png", "labels": {"cat": null, "dog": 1}}\n',
    ),
}


def prepare(folder: Path, name: str, text: str) -> Path:
    (folder / "train").mkdir(parents=True)
    for k, image in enumerate("abc"):
        Image.fromarray(np.full((8, 8, 3), 60 * k, np.uint8)).save(folder / f"train/{image}.png")
    (folder / "train" / name).write_text(text)
    return folder


@pytest.mark.parametrize("form", sorted(FORMS))
def test_tables_say_the_same_in_every_form(form: str, tmp_path: Path) -> None:
    data = open_label_sets(prepare(tmp_path / "data", *FORMS[form]), HOW, outputs=2, workers=0)
    assert data.classes == ("cat", "dog")
    rows = [data.training.read(k, None)[1].tolist() for k in range(3)]
    unknown = -1.0 if form in ("columns", "lines") else 0.0
    assert rows == [[1, 1], [0, 0], [unknown, 1]]
    images, marks = next(iter(data.train(3, augment=True)))
    assert images.shape == (3, 3, 8, 8) and marks.dtype == torch.float32


def test_coco_and_names_of_classes(tmp_path: Path) -> None:
    folder = prepare(tmp_path / "data", "x.json", "")
    (folder / "train" / "x.json").unlink()
    box = {"bbox": [0, 0, 4, 4], "iscrowd": 0}
    content = {
        "images": [{"id": k, "file_name": f"{n}.png"} for k, n in enumerate("abc")],
        "annotations": [
            {**box, "id": 1, "image_id": 0, "category_id": 9},
            {**box, "id": 2, "image_id": 0, "category_id": 4},
            {**box, "id": 3, "image_id": 2, "category_id": 9},
        ],
        "categories": [{"id": 9, "name": "dog"}, {"id": 4, "name": "cat"}],
    }
    (folder / "train" / "_annotations.coco.json").write_text(json.dumps(content))
    data = open_label_sets(folder, HOW, workers=0)
    assert data.classes == ("cat", "dog")
    assert [data.training.read(k, None)[1].tolist() for k in range(3)] == [[1, 1], [0, 0], [0, 1]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,cat,dog\na.png,1,2\n", "column 'dog' holds '2'"),
        ("image,cat,dog\na.png,1\n", "line 2 has 2 cells, expected 3"),
        ("image,labels\nz.png,cat\n", "1 of 1 images"),
        ("image,labels\na.png,cat\n", "1 classes .*3 outputs"),
    ],
)
def test_tables_that_do_not_fit_are_said(text: str, words: str, tmp_path: Path) -> None:
    folder = prepare(tmp_path / "data", "labels.csv", text)
    with pytest.raises(PrunerError, match=words):
        open_label_sets(folder, HOW, outputs=3)
    (folder / "classes.txt").write_text("bird\ncat\n")
    if "1 classes" in words:
        data = open_label_sets(folder, HOW, outputs=2)
        assert data.training.read(0, None)[1].tolist() == [0, 1]
