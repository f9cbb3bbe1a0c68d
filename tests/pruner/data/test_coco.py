"""COCO's JSON: boxes against arithmetic, every layout, what is dropped and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from pruner.data import Framing, Preprocessing, open_coco
from pruner.errors import PrunerError, PrunerWarning

HOW = Preprocessing((32, 64), (0.0,) * 3, (1.0,) * 3)
CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": 90, "name": "cup"}]


def make_split(file, images, count=4, extra=()):
    """Write images of 100 x 50 pixels, with a white box in each but the last."""
    file.parent.mkdir(parents=True, exist_ok=True)
    images.mkdir(parents=True, exist_ok=True)
    listed, found = [], []
    for k in range(count):
        values = np.zeros((50, 100, 3), np.uint8)
        left, top = 10 + 5 * k, 8 + k
        if k < count - 1:
            values[top : top + 20, left : left + 30] = 255
            found.append({"id": k, "image_id": 100 + k, "category_id": [7, 3, 90][k % 3],
                          "bbox": [left, top, 30, 20], "iscrowd": 0})  # fmt: skip
        Image.fromarray(values).save(images / f"{k}.png")
        listed.append({"id": 100 + k, "file_name": f"{k}.png", "height": 50, "width": 100})
    content = {"images": listed, "annotations": [*found, *extra], "categories": CATEGORIES}
    file.write_text(json.dumps(content))
    return content


def make_folder(root, **named):
    for split in ("train", "val"):
        make_split(root / f"annotations/instances_{split}2017.json", root / f"{split}2017", **named)


def test_boxes_are_corners_in_the_inputs_pixels(tmp_path):
    make_folder(tmp_path)
    data = open_coco(tmp_path, HOW, workers=0)
    assert data.classes == ("dog", "cat", "cup") and len(data.testing) == 4
    (images, targets), *_ = data.test(4)
    assert images.shape == (4, 3, 32, 64) and len(targets) == 4
    for k, target in enumerate(targets[:3]):
        left, top = 10 + 5 * k, 8 + k
        expected = torch.tensor([[left, top, left + 30, top + 20]]) * torch.tensor([0.64] * 4)
        assert torch.allclose(target["boxes"], expected)
        assert target["labels"].tolist() == [[2, 1, 3][k]]
        assert target["image_id"].item() == 100 + k and target["size"].tolist() == [50, 100]
    assert targets[3]["boxes"].shape == (0, 4) and targets[3]["labels"].dtype == torch.int64


@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
def test_boxes_enclose_what_they_enclosed(tmp_path, fit):
    make_folder(tmp_path)
    data = open_coco(tmp_path, HOW, framing=Framing(fit, scale=(0.5, 1.0)), workers=0)
    seen = 0
    for epoch in range(6):
        for images, targets in data.train(4, seed=epoch):
            for image, target in zip(images, targets, strict=True):
                for left, top, right, bottom in target["boxes"].round().int().tolist():
                    seen += 1
                    assert image[0, top + 2 : bottom - 2, left + 2 : right - 2].min() > 0.9
                    outside = image[0].clone()
                    outside[max(top - 2, 0) : bottom + 2, max(left - 2, 0) : right + 2] = 0
                    assert outside.max() < 0.1
    assert seen > 5


@pytest.mark.parametrize("layout", ["coco", "roboflow", "images", "flat", "inner", "named"])
def test_layouts(tmp_path, layout):
    named = {}
    for split in ("train", "valid"):
        file, images = {
            "coco": (f"annotations/{split}.json", split),
            "roboflow": (f"{split}/_annotations.coco.json", split),
            "images": (f"annotations/instances_{split}.json", f"images/{split}"),
            "inner": (f"{split}/annotations.json", f"{split}/images"),
            "flat": (f"{split}.json", "images"),
            "named": (f"my_{split}_file.json", "somewhere"),
        }[layout]
        make_split(tmp_path / file, tmp_path / images)
        named["train" if split == "train" else "test"] = (file, images)
    data = open_coco(tmp_path, HOW, **(named if layout == "named" else {}))
    assert len(data.training) == len(data.testing) == 4


def test_crowds_and_empty_boxes_are_left_out(tmp_path):
    def box(*values, crowd=0):
        return {"image_id": 100, "category_id": 7, "bbox": list(values), "iscrowd": crowd}

    extra = [box(1, 1, 9, 9, crowd=1), box(5, 5, 0, 9), box(120, 5, 9, 9), box(90, 40, 30, 30)]
    make_folder(tmp_path, extra=extra)
    with pytest.warns(PrunerWarning):
        data = open_coco(tmp_path, HOW, workers=0)
    (_, targets), *_ = data.test(4)
    last = torch.tensor([90, 40, 100, 50]) * 0.64
    assert len(targets[0]["boxes"]) == 2 and torch.allclose(targets[0]["boxes"][1], last)
    text = " ".join(data.notes)
    assert "1 crowd regions are ignored" in text and "1 boxes reach beyond" in text
    assert "2 boxes have no area within their image and are dropped" in text


def test_missing_images_are_named_or_left_out(tmp_path):
    make_folder(tmp_path)
    (tmp_path / "train2017/1.png").unlink()
    with pytest.raises(PrunerError, match=r"1 of 4 images of .* are not under .*first 1\.png"):
        open_coco(tmp_path, HOW)
    with pytest.warns(PrunerWarning, match="are left out"):
        data = open_coco(tmp_path, HOW, workers=0, on_error="skip")
    found = sorted(
        (t["image_id"].item(), t["labels"].tolist())
        for _, targets in data.train(3, augment=False)
        for t in targets
    )
    assert found == [(100, [2]), (102, [3]), (103, [])]


@pytest.mark.parametrize("key, value, message", [
    ("annotations", None, "expected COCO's lists"),
    ("images", [{"id": 1}], "no file_name that is a text in the image"),
    ("annotations", [{"image_id": 5, "category_id": 7, "bbox": [0, 0, 1, 1]}], "image 5, which is"),
    ("annotations", [{"image_id": 100, "category_id": 1, "bbox": [0, 0, 1, 1]}], "category 1, wh"),
    ("annotations", [{"image_id": 100, "category_id": 7, "bbox": [0, "x", 1, 1]}], "expected bbox"),
    ("annotations", [{"image_id": 100, "category_id": 7}], "expected bbox"),
    ("categories", [{"id": 7, "name": "a"}, {"id": 7, "name": "b"}], "have one id"),
])  # fmt: skip
def test_files_that_are_not_cocos_are_refused(tmp_path, key, value, message):
    make_folder(tmp_path)
    file = tmp_path / "annotations/instances_train2017.json"
    content = json.loads(file.read_text()) | {key: value}
    file.write_text(json.dumps(content))
    with pytest.raises(PrunerError, match=message) as caught:
        open_coco(tmp_path, HOW)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_wrong_folders_are_told(tmp_path):
    with pytest.raises(PrunerError, match="no such data folder"):
        open_coco(tmp_path / "absent", HOW)
    with pytest.raises(PrunerError, match="no JSON file of a train split; .* found nothing"):
        open_coco(tmp_path, HOW)
    make_folder(tmp_path)
    (tmp_path / "annotations/more_train.json").write_text("{}")
    assert len(open_coco(tmp_path, HOW).training) == 4
    (tmp_path / "annotations/instances_train2014.json").write_text("{}")
    with pytest.raises(PrunerError, match="several JSON files of train"):
        open_coco(tmp_path, HOW)


def test_sizes_and_names_must_agree(tmp_path):
    make_folder(tmp_path)
    Image.new("RGB", (50, 100)).save(tmp_path / "val2017/0.png")
    with pytest.raises(PrunerError, match="50 x 100 pixels, but its target .* has 100 x 50"):
        list(open_coco(tmp_path, HOW, workers=0).test(4))
    first = open_coco(tmp_path, HOW).fingerprint()
    file = tmp_path / "annotations/instances_val2017.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"][0] += 1
    file.write_text(json.dumps(content))
    assert first != open_coco(tmp_path, HOW).fingerprint()
    content["categories"][0]["name"] = "lion"
    file.write_text(json.dumps(content))
    with pytest.raises(PrunerError, match="category 7 is 'lion', but 'cat'"):
        open_coco(tmp_path, HOW)


def test_keypoints_move_with_their_box(tmp_path):
    names = ["nose", "left_ear", "right_ear", "Tail"]
    for split in ("train", "val"):
        file = tmp_path / f"annotations/person_keypoints_{split}.json"
        content = make_split(file, tmp_path / split)
        content["categories"] = [one | {"keypoints": names} for one in CATEGORIES[:1]] + CATEGORIES[
            1:
        ]
        for one in content["annotations"][1:]:
            x, y, w, h = one["bbox"]
            one["keypoints"] = [x, y, 2, x + w, y, 1, x, y + h, 2, 5, 5, 0]
        file.write_text(json.dumps(content))
    data = open_coco(tmp_path, HOW, framing=Framing(scale=(1.0, 1.0), flip=1.0), workers=0)
    (_, plain), *_ = data.train(4, augment=False)
    (_, mirrored), *_ = data.train(4)
    seen = 0
    for left, right in zip(plain, mirrored, strict=True):
        for box, points in zip(left["boxes"], left["keypoints"], strict=True):
            if left["image_id"] != 100:
                expected = [[*box[:2], 2], [box[2], box[1], 1], [box[0], box[3], 2], [0, 0, 0]]
                assert torch.allclose(points, torch.tensor(expected))
                seen += 1
            else:
                assert not points.any()
        assert left["keypoints"].shape[1:] == (4, 3)
        flipped = left["keypoints"][:, [0, 2, 1, 3]].clone()
        flipped[..., 0] = torch.where(flipped[..., 2] > 0, 64 - flipped[..., 0], 0)
        assert torch.allclose(flipped, right["keypoints"])
    assert seen == 2
    content["annotations"][2]["keypoints"] = [1, 2]
    file.write_text(json.dumps(content))
    with pytest.raises(PrunerError, match="annotation 2: expected 4 keypoints of x, y and"):
        open_coco(tmp_path, HOW)
    cropped = Framing("crop").place((50, 100), (8, 8), None)
    assert not cropped.cut_points(np.array([[[1.0, 1, 2]]]), [0]).any()
