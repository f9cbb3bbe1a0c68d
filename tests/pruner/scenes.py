"""Tiny detectors as torchvision has them, and pictures of squares to find."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.models.detection import FasterRCNN, KeypointRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNPredictor
from torchvision.models.detection.ssd import SSD, SSDHead
from torchvision.ops import MultiScaleRoIAlign

SIZE, NAMES = 32, ("red", "blue")
MODEL = "tiny_detector:make"
SOURCE = """
from tests.pruner.scenes import make_ssd


def make():
    return make_ssd()
"""


def make_block(inputs: int, outputs: int, stride: int = 2) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class Pyramid(nn.Module):
    """Maps of a quarter and an eighth of the size."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.out_channels = width
        self.stem = nn.Sequential(make_block(3, 12), make_block(12, width))
        self.inner = make_block(width, 24, 1)
        self.back = nn.Conv2d(24, width, 3, padding=1)
        self.down = make_block(width, width)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.stem(x)
        x = x + self.back(self.inner(x))
        return OrderedDict([("0", x), ("1", self.down(x))])


def make_ssd() -> SSD:
    """SSD with scores of background, red and blue."""
    anchors = DefaultBoxGenerator([[], []], scales=[0.25, 0.4, 0.6])
    head = SSDHead([16, 16], anchors.num_anchors_per_location(), len(NAMES) + 1)
    return SSD(Pyramid(), anchors, (SIZE, SIZE), len(NAMES) + 1, head=head)


SIDES = AnchorGenerator(((8,), (12,)), ((1.0,),) * 2)


def make_retina() -> RetinaNet:
    return RetinaNet(
        Pyramid(), len(NAMES) + 1, min_size=SIZE, max_size=SIZE, anchor_generator=SIDES
    )


def make_rcnn(keypoints: bool = False) -> nn.Module:
    pool = MultiScaleRoIAlign(["0", "1"], 5, 2)
    few = {
        "min_size": SIZE, "max_size": SIZE, "rpn_anchor_generator": SIDES, "box_roi_pool": pool,
        "rpn_post_nms_top_n_test": 20, "rpn_post_nms_top_n_train": 20,
        "box_head": TwoMLPHead(16 * 25, 24),
        "box_predictor": FastRCNNPredictor(24, len(NAMES) + 1),
    }  # fmt: skip
    if not keypoints:
        return FasterRCNN(Pyramid(), **few)
    points = nn.Sequential(
        nn.Conv2d(16, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 16, 3, padding=1), nn.ReLU()
    )
    predictor = KeypointRCNNPredictor(16, 2)
    return KeypointRCNN(
        Pyramid(), **few, keypoint_roi_pool=pool, keypoint_head=points,
        keypoint_predictor=predictor,
    )  # fmt: skip


def draw_scene(dice: np.random.Generator) -> tuple[np.ndarray, list[tuple[int, list[int]]]]:
    """A picture uint8 [SIZE, SIZE, 3], and class and box [x, y, side, side] of 0 to 2 squares."""
    image = dice.integers(0, 60, (SIZE, SIZE, 3), dtype=np.uint8)
    found = []
    for kind, channel, left in ((1, 0, 0), (2, 2, SIZE // 2)):
        if dice.random() < 0.2:
            continue
        side = int(dice.integers(8, 14))
        x, y = left + int(dice.integers(0, SIZE // 2 - side + 1)), int(dice.integers(SIZE - side))
        image[y : y + side, x : x + side] = 20
        image[y : y + side, x : x + side, channel] = 220
        found.append((kind, [x, y, side, side]))
    return image, found


def write_scenes(folder: Path, train: int = 24, test: int = 8) -> Path:
    """Write COCO's files: train/_annotations.coco.json beside its images, and test."""
    dice = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        (folder / split).mkdir(parents=True)
        images, annotations = [], []
        for number in range(count):
            pixels, found = draw_scene(dice)
            name = f"{number:02}.png"
            Image.fromarray(pixels).save(folder / split / name)
            images.append({"id": number, "file_name": name, "height": SIZE, "width": SIZE})
            annotations += [
                {"id": 2 * number + k, "image_id": number, "category_id": kind, "bbox": box}
                for k, (kind, box) in enumerate(found)
            ]
        content = {
            "images": images, "annotations": annotations,
            "categories": [{"id": k, "name": name} for k, name in enumerate(NAMES, 1)],
        }  # fmt: skip
        (folder / split / "_annotations.coco.json").write_text(json.dumps(content))
    return folder


def draw_batch(count: int = 4, seed: int = 1) -> tuple[torch.Tensor, list[dict]]:
    """Images [count, 3, SIZE, SIZE] and their boxes; the last has none."""
    dice = np.random.default_rng(seed)
    images, targets = [], []
    for number in range(count):
        pixels, found = draw_scene(dice)
        images.append(torch.from_numpy(pixels).permute(2, 0, 1) / 255)
        found = found if number < count - 1 else []
        boxes = [[x, y, x + w, y + h] for _, (x, y, w, h) in found]
        targets.append({
            "boxes": torch.tensor(boxes).float().reshape(-1, 4),
            "labels": torch.tensor([kind for kind, _ in found]).long(),
            "keypoints": torch.tensor([[[b[0], b[1], 1], [b[2], b[3], 1]] for b in boxes])
            .float().reshape(-1, 2, 3),
        })  # fmt: skip
    return torch.stack(images), targets
