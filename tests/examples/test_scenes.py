"""Rendered scenes say the truth about themselves, on pictures made here."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from examples.scenes import (
    Cutout,
    compose_scene,
    find_cutouts,
    find_photos,
    split_fifth,
    write_scenes,
)
from examples.scenes.sheet import draw_sheet

CLASSES = {"disc": ("round",), "bar": ("long", "longer")}


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[list[Cutout], list[Path]]:
    """Two red discs, four green bars with a transparent margin; grey photographs."""
    for folder, shape, fill in (
        ("round", (40, 40), "red"), ("long/inner", (60, 20), "lime"), ("longer", (20, 90), "lime"),
        ("long/cartoon", (60, 20), "blue"),
    ):  # fmt: skip
        (tmp_path / "cut" / folder).mkdir(parents=True)
        for k in range(2):
            image = Image.new("RGBA", (100, 100), (0, 0, 255, 0))
            box = (5, 5, 4 + shape[0], 4 + shape[1])
            brush = ImageDraw.Draw(image)
            (brush.ellipse if folder == "round" else brush.rectangle)(box, fill=fill)
            image.save(tmp_path / "cut" / folder / f"{k}.png")
    (tmp_path / "photos").mkdir()
    for k in range(6):
        Image.new("L", (120 + k, 100), 100 + k).save(tmp_path / "photos" / f"{k}_grey.jpg")
    return find_cutouts(tmp_path / "cut", CLASSES), find_photos(tmp_path / "photos")


def test_cutouts_are_found_by_class_and_trimmed(pictures) -> None:
    cutouts, photos = pictures
    assert [c.label for c in cutouts] == [1, 1, 2, 2, 2, 2]  # the cartoons are left out
    assert cutouts[0].open().size == (40, 40) and cutouts[-1].open().size == (20, 90)
    assert len(photos) == 6
    with pytest.raises(FileNotFoundError, match=r"class disc: 0 pictures in nowhere"):
        find_cutouts(cutouts[0].path.parents[1], {"disc": ("nowhere",)})
    with pytest.raises(FileNotFoundError, match="1 photographs"):
        find_photos(photos[0].parent, [f"{k}_*" for k in range(5)])


def test_splits_share_nothing() -> None:
    train, held_out = split_fifth(range(12))
    assert held_out == [1, 6, 11] and sorted(train + held_out) == list(range(12))


def test_masks_and_boxes_are_of_what_is_seen(pictures) -> None:
    cutouts, photos = pictures
    seen = set()
    for seed in range(12):
        scene = compose_scene(cutouts, photos, 96, (seed,))
        pixels = np.asarray(scene.image).astype(int)
        colourful = np.ptp(pixels, axis=2) > 40  # photographs are grey, cut-outs are not
        agree = (colourful == (scene.mask > 0)).mean()
        assert agree > 0.97
        red = colourful & (pixels[..., 0] > pixels[..., 1])
        assert (red == (scene.mask == 1)).mean() > 0.97
        for k, label in enumerate(scene.labels):
            x, y, width, height = scene.box(k)
            inside = scene.instances == k + 1
            assert inside[y : y + height, x : x + width].sum() == inside.sum() == scene.area(k) > 0
            assert inside[y].any() and inside[:, x].any()
            assert inside[y + height - 1].any() and inside[:, x + width - 1].any()
            assert set(scene.mask[inside]) == {label}
        assert list(scene.distances) == sorted(scene.distances, reverse=True)
        seen |= set(scene.labels)
    assert seen == {1, 2}


def test_what_cannot_be_seen_has_no_box(pictures, tmp_path: Path) -> None:
    Image.new("RGBA", (30, 30), (255, 0, 0, 60)).save(tmp_path / "glass.png")
    Image.new("RGBA", (900, 1), "red").save(tmp_path / "thread.png")
    cutouts = [Cutout(tmp_path / "glass.png", 1), Cutout(tmp_path / "thread.png", 2)]
    for seed in range(6):
        scene = compose_scene(cutouts, pictures[1], 64, (seed,))
        assert 1 not in scene.labels
        assert all(scene.area(k) > 0 for k in range(len(scene.labels)))


def test_files_hold_the_scene_and_depend_on_the_seed_only(pictures, tmp_path: Path) -> None:
    cutouts, photos = pictures
    one, again, other = tmp_path / "one", tmp_path / "again", tmp_path / "other"
    first = write_scenes(one, cutouts, photos, list(CLASSES), count=3, size=64, seed=(0, 1))
    write_scenes(again, cutouts, photos, list(CLASSES), count=2, size=64, seed=(0, 1))
    write_scenes(other, cutouts, photos, list(CLASSES), count=2, size=64, seed=(1, 1))
    for name in ("images/00001.jpg", "masks/00001.png", "depth/00001.png"):
        digests = [hashlib.sha256((f / name).read_bytes()).digest() for f in (one, again, other)]
        assert digests[0] == digests[1] != digests[2], name
    mask = Image.open(one / "masks" / "00002.png")
    assert mask.mode == "P" and np.array_equal(np.asarray(mask), first[2].mask)
    depth = np.asarray(Image.open(one / "depth" / "00002.png")).astype(float) / 10_000
    assert np.abs(depth - first[2].depth).max() < 1e-4
    coco = json.loads((one / "annotations.json").read_text())
    assert [c["name"] for c in coco["categories"]] == ["disc", "bar"]
    found = [a for a in coco["annotations"] if a["image_id"] == 2]
    assert [a["category_id"] for a in found] == list(first[2].labels)
    assert [tuple(a["bbox"]) for a in found] == [first[2].box(k) for k in range(len(found))]
    assert draw_sheet(first, list(CLASSES)).size == (4 * 3 * 64, 64)
