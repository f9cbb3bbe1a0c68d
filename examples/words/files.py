"""Writes lines and pages in the layouts that `pruner.data` reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from .layout import Page, compose_line, compose_page

Pictures = Sequence[Path]


def write_lines(
    folder: Path, words: Sequence[str], fonts: Pictures, photos: Pictures,
    *, count: int, seed: Sequence[int],
) -> list[tuple[Image.Image, str]]:  # fmt: skip
    """Write lines to images/ of a folder, and what they say to labels.tsv; return the first 48."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows, first = ["image\ttext"], []
    for k in range(count):
        image, text = compose_line(words, fonts, photos, (*seed, k))
        image.save(folder / "images" / f"{k:05d}.png")
        rows.append(f"images/{k:05d}.png\t{text}")
        if k < 48:
            first.append((image, text))
    (folder / "labels.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return first


def write_pages(
    folder: Path, words: Sequence[str], fonts: Pictures, photos: Pictures,
    *, count: int, size: int, seed: Sequence[int],
) -> list[Page]:  # fmt: skip
    """Write pages to images/ of a folder, and COCO's annotations.json; return the first 12.

    An annotation has, besides its box, ``text`` and ``characters``: the corners of each.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    first = []
    for k in range(count):
        page = compose_page(words, fonts, photos, size, (*seed, k))
        page.image.save(folder / "images" / f"{k:05d}.jpg", quality=92)
        images.append({"id": k, "file_name": f"{k:05d}.jpg", "width": size, "height": size})
        for text, box, corners in zip(page.words, page.boxes.tolist(), page.corners):
            left, top, right, bottom = box
            boxes.append({
                "id": len(boxes) + 1, "image_id": k, "category_id": 1, "iscrowd": 0,
                "bbox": [left, top, right - left, bottom - top],
                "area": (right - left) * (bottom - top), "text": text,
                "characters": corners.round(2).tolist(),
            })  # fmt: skip
        if k < 12:
            first.append(page)
    content = {
        "images": images, "annotations": boxes, "categories": [{"id": 1, "name": "word"}],
    }  # fmt: skip
    (folder / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    return first
