"""Writes scenes in the layouts that `pruner.data` reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .compose import FAR, Scene, compose_scene
from .cutouts import Cutout

DEPTH_UNITS = 10_000
"""A 16-bit depth of this many is a distance of 1; `FAR` is 50,000."""
assert FAR * DEPTH_UNITS < 2**16

COLOURS = (
    (0, 0, 0), (230, 25, 75), (60, 180, 75), (255, 225, 25), (0, 130, 200), (245, 130, 48),
    (145, 30, 180), (70, 240, 240), (240, 50, 230), (210, 245, 60), (250, 190, 212),
)  # fmt: skip
"""Of the classes in masks and on the contact sheet, over and over."""


def write_scenes(
    folder: Path,
    cutouts: Sequence[Cutout],
    photos: Sequence[Path],
    classes: Sequence[str],
    *,
    count: int,
    size: int = 192,
    seed: Sequence[int] = (0,),
) -> list[Scene]:
    """Write scenes to images/, masks/, depth/ and annotations.json of a folder.

    Scene k depends on cut-outs, photographs, size, seed and k only.

    Args:
        folder: Files of earlier scenes in it are overwritten.
        cutouts: What to paste.
        photos: What to paste it on.
        classes: Their names, class 1 first.
        count: How many scenes.
        size: Their sides, in pixels.
        seed: Whole numbers.

    Returns:
        The first scenes, up to 24, to look at.
    """
    for name in ("images", "masks", "depth"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    palette = [value for k in range(256) for value in COLOURS[k % len(COLOURS)]]
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    first = []
    for k in range(count):
        scene = compose_scene(cutouts, photos, size, (*seed, k))
        name = f"{k:05d}"
        scene.image.save(folder / "images" / f"{name}.jpg", quality=92)
        mask = Image.fromarray(scene.mask, "P")
        mask.putpalette(palette)
        mask.save(folder / "masks" / f"{name}.png")
        depth = np.round(scene.depth * DEPTH_UNITS).astype(np.uint16)
        Image.fromarray(depth).save(folder / "depth" / f"{name}.png")
        images.append({"id": k, "file_name": f"{name}.jpg", "width": size, "height": size})
        for number, label in enumerate(scene.labels):
            boxes.append({
                "id": len(boxes) + 1, "image_id": k, "category_id": label,
                "bbox": list(scene.box(number)), "area": scene.area(number), "iscrowd": 0,
            })  # fmt: skip
        if k < 24:
            first.append(scene)
    categories = [{"id": k, "name": name} for k, name in enumerate(classes, start=1)]
    content = {"images": images, "annotations": boxes, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    return first
