"""Holds the scenes of a folder in memory, as bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

Targets = list[dict[str, Tensor]]


@dataclass(frozen=True)
class SceneSet:
    """What `examples.scenes` wrote to one folder.

    Attributes:
        images: uint8 [n, 3, size, size].
        classes: Names; class k of masks and boxes is classes[k - 1].
        boxes: Of every scene, float32 [cut-outs, 4]: left, top, right, bottom, in pixels.
        labels: Of every scene, int64 [cut-outs].
        masks: uint8 [n, size, size], or None if not asked for.
        depth: float32 [n, size, size], or None if not asked for.
    """

    images: Tensor
    classes: tuple[str, ...]
    boxes: list[Tensor]
    labels: list[Tensor]
    masks: Tensor | None
    depth: Tensor | None

    def __len__(self) -> int:
        return len(self.images)

    def find_targets(self, rows: Tensor, mirror: Tensor | None = None) -> Targets:
        """Return boxes and labels as torchvision's detectors take them."""
        targets = []
        for k, row in enumerate(rows.tolist()):
            boxes = self.boxes[row]
            if mirror is not None and mirror[k]:
                width = self.images.shape[-1]
                left, top, right, bottom = boxes.unbind(1)
                boxes = torch.stack([width - right, top, width - left, bottom], dim=1)
            targets.append({"boxes": boxes, "labels": self.labels[row]})
        return targets


def open_scenes(folder: Path, limit: int | None = None, **wanted: bool) -> SceneSet:
    """Read scenes; masks=True and depth=True read those too.

    Raises:
        FileNotFoundError: There are none.
    """
    path = folder / "annotations.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: `python -m examples.scenes` writes scenes")
    content = json.loads(path.read_text(encoding="utf-8"))
    files = [Path(image["file_name"]) for image in content["images"][:limit]]
    found: list[list[dict[str, Any]]] = [[] for _ in content["images"]]
    for box in content["annotations"]:
        found[box["image_id"]].append(box)
    boxes = [torch.tensor([b["bbox"] for b in some]).float().reshape(-1, 4) for some in found]
    for some in boxes:
        some[:, 2:] += some[:, :2]
    images = read_stack([folder / "images" / file for file in files], np.uint8)
    names = [file.with_suffix(".png") for file in files]
    masks = depth = None
    if wanted.get("masks"):
        masks = read_stack([folder / "masks" / name for name in names], np.uint8)
    if wanted.get("depth"):
        depth = read_stack([folder / "depth" / name for name in names], np.float32) / 10_000
    return SceneSet(
        images.permute(0, 3, 1, 2).contiguous(),
        tuple(category["name"] for category in content["categories"]),
        boxes[: len(files)],
        [torch.tensor([b["category_id"] for b in some], dtype=torch.int64) for some in found][
            : len(files)
        ],
        masks,
        depth,
    )


def read_stack(paths: list[Path], kind: Any) -> Tensor:
    """Read pictures of one shape into one tensor of this type; palettes as indices."""
    first = np.asarray(Image.open(paths[0]))
    stack = np.empty((len(paths), *first.shape), kind)
    for k, path in enumerate(paths):
        with Image.open(path) as image:
            stack[k] = np.asarray(image)
    return torch.from_numpy(stack)
