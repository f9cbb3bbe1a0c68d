"""The networks of the examples train on scenes, stop, and go on to the same weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw
from torch import nn

pytest.importorskip("torchvision", reason="the networks of the examples are torchvision's")

from examples import depth, detection, networks, segmentation, training
from examples.scene_set import open_scenes
from examples.scenes import Cutout, write_scenes


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes of 64 pixels: red discs and green squares on grey."""
    root = tmp_path_factory.mktemp("scenes")
    cutouts = []
    for label, fill in enumerate(("red", "lime"), start=1):
        image = Image.new("RGBA", (40, 40))
        brush = ImageDraw.Draw(image)
        (brush.ellipse if label == 1 else brush.rectangle)((0, 0, 39, 39), fill=fill)
        image.save(root / f"{label}.png")
        cutouts.append(Cutout(root / f"{label}.png", label))
    Image.new("RGB", (80, 80), "grey").save(root / "photo.png")
    for k, (name, count) in enumerate((("train", 12), ("val", 6))):
        write_scenes(
            root / name, cutouts, [root / "photo.png"], ["disc", "square"],
            count=count, size=64, seed=(k,),
        )  # fmt: skip
    return root


def test_scenes_are_read_as_they_were_written(scenes: Path) -> None:
    found = open_scenes(scenes / "val", masks=True, depth=True)
    assert found.images.shape == (6, 3, 64, 64) and found.classes == ("disc", "square")
    assert found.masks is not None and found.depth is not None
    assert float(found.depth.max()) == 5 and float(found.depth.min()) >= 1
    (plain,) = found.find_targets(torch.tensor([2]))
    (mirrored,) = found.find_targets(torch.tensor([2]), torch.tensor([True]))
    for target, mask in ((plain, found.masks[2]), (mirrored, found.masks[2].flip(-1))):
        for box, label in zip(target["boxes"].int().tolist(), target["labels"]):
            left, top, right, bottom = box
            assert (mask[top:bottom, left:right] == label).any()
        covered = torch.zeros(64, 64, dtype=torch.bool)
        for left, top, right, bottom in target["boxes"].int().tolist():
            covered[top:bottom, left:right] = True
        assert not (mask.bool() & ~covered).any()


@pytest.mark.parametrize("kind", ["detection", "segmentation", "depth"])
def test_an_interrupted_training_ends_with_the_same_weights(
    kind: str, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "make_mobilenet", lambda weights: make_small_mobilenet())
    recipe = training.Recipe(epochs=2, batch=4, lr=1e-3)

    def make_job() -> training.Job:
        if kind == "depth":
            return depth.make_job(scenes, None, None, 0)
        module, name = {
            "detection": (detection, "ssdlite_mobilenet_v2"),
            "segmentation": (segmentation, "lraspp_mobilenet_v2"),
        }[kind]
        return module.make_job(name, scenes, None, None, 0)

    if kind == "detection":
        monkeypatch.setattr(detection, "evaluate", lambda *_: {"map": 0.0})
    job = make_job()
    figures = training.train(job, recipe, tmp_path / "straight", tmp_path / "figures.json")
    assert figures["parameters"] == sum(p.numel() for p in job.model.parameters())
    assert json.loads((tmp_path / "figures.json").read_text())[job.name] == figures
    with pytest.raises(ValueError, match="less than a batch of 99"):
        training.train(job, training.Recipe(batch=99), tmp_path, tmp_path / "other.json")
    stopped, step = make_job(), training.take_step
    monkeypatch.setattr(training, "SAVE_EVERY_S", -1.0)

    def stop_at_fourth(job, recipe, optimizer, k, steps):
        if k == 4:
            raise KeyboardInterrupt
        return step(job, recipe, optimizer, k, steps)

    monkeypatch.setattr(training, "take_step", stop_at_fourth)
    with pytest.raises(KeyboardInterrupt):
        training.train(stopped, recipe, tmp_path / "stopped", tmp_path / "other.json")
    monkeypatch.setattr(training, "take_step", step)
    training.train(make_job(), recipe, tmp_path / "stopped", tmp_path / "other.json")
    again = training.load_trained(make_job().model, job.name, tmp_path / "stopped").state_dict()
    for name, tensor in job.model.state_dict().items():
        assert torch.equal(tensor, again[name]), name


def make_small_mobilenet() -> nn.Sequential:
    """MobileNetV2's features, a quarter as wide, with the last layer's width kept."""
    import torchvision

    return torchvision.models.mobilenet_v2(width_mult=0.25).features


def test_overlap_and_relative_error_by_hand() -> None:
    overlap = segmentation.MeanOverlap(3)
    truth = torch.tensor([[[0, 0, 1, 1]]])
    scores = nn.functional.one_hot(torch.tensor([[[0, 1, 1, 1]]]), 3).permute(0, 3, 1, 2)
    overlap.update(scores.float(), truth)
    assert overlap.compute() == pytest.approx((1 / 2 + 2 / 3) / 2)  # class 2 does not occur
    error = depth.RelativeError()
    error.update(torch.tensor([[[[2.0, 3.0]]]]).log(), torch.tensor([[[4.0, 3.0]]]))
    assert error.compute() == pytest.approx(0.25)


def test_mean_precision_by_hand() -> None:
    pytest.importorskip("torchmetrics", reason="mean average precision is torchmetrics'")
    pytest.importorskip("pycocotools", reason="torchmetrics computes it by pycocotools")
    metric = detection.MeanPrecision()
    truth = {"boxes": torch.tensor([[0.0, 0, 10, 10]]), "labels": torch.tensor([1])}
    given = {"boxes": torch.tensor([[0.0, 0, 10, 8.2]]), "scores": torch.tensor([0.9])}
    metric.update([{**given, "labels": torch.tensor([1])}], [truth])
    found = metric.compute()  # an overlap of 82% counts at 50, 55, ... 80: 7 of 10
    assert found["map_50"] == pytest.approx(1) and found["map"] == pytest.approx(0.7)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"annotations\.json is not there"):
        open_scenes(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"unet\.safetensors is not there"):
        training.load_trained(networks.UNet(4), "unet", tmp_path)
