"""What the examples write is what the package's readers read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from examples.scene_set import open_scenes
from examples.scenes import Cutout, write_scenes
from examples.words import ALPHABET, find_fonts, write_lines, write_pages
from pruner.data import Preprocessing, open_coco, open_maps, open_masks, open_text_lines

SIZE = 64
PLAIN = Preprocessing((SIZE, SIZE), (0.0,) * 3, (1.0,) * 3)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes, lines and pages of a few red discs and words on grey."""
    root = tmp_path_factory.mktemp("written")
    image = Image.new("RGBA", (40, 40))
    ImageDraw.Draw(image).ellipse((0, 0, 39, 39), fill="red")
    image.save(root / "disc.png")
    Image.new("RGB", (80, 80), "grey").save(root / "photo.png")
    cutouts, photos = [Cutout(root / "disc.png", 1)], [root / "photo.png"]
    for k, name in enumerate(("train", "val")):
        scenes = root / "scenes" / name
        write_scenes(scenes, cutouts, photos, ["disc"], count=4, size=SIZE, seed=(k,))
        of = (["alpha", "beta"], find_fonts(), photos)
        write_lines(root / "lines" / name, *of, count=4, seed=(k,))
        write_pages(root / "pages" / name, *of, count=4, size=SIZE, seed=(k, 7))
    (root / "lines" / "alphabet.txt").write_text(ALPHABET + "\n", encoding="utf-8")
    return root


def test_scenes(written: Path) -> None:
    root = written / "scenes"
    held_out = open_scenes(root / "val", masks=True, depth=True)
    assert held_out.masks is not None and held_out.depth is not None
    masks = open_masks(root, PLAIN, workers=0)
    ((images, found),) = masks.test(4)
    assert torch.equal((255 * images).round().byte(), held_out.images)
    assert torch.equal(found, held_out.masks.long())
    maps = open_maps(root, PLAIN, scale=1 / 10_000, workers=0)
    ((_, depth),) = maps.test(4)
    assert torch.allclose(depth["map"][:, 0], held_out.depth, atol=1e-4)
    boxes = open_coco(root, PLAIN, workers=0)
    assert boxes.classes == ("disc",)
    ((_, targets),) = boxes.test(4)
    for target, row in zip(targets, range(4)):
        assert torch.equal(target["boxes"], held_out.boxes[row])
        assert torch.equal(target["labels"], held_out.labels[row])


def test_lines_and_pages(written: Path) -> None:
    grey = Preprocessing((64, 320), (0.5,), (0.5,))
    data = open_text_lines(written / "lines", grey, workers=0)
    assert "".join(data.classes) == ALPHABET
    ((lines, targets),) = data.test(4)
    assert lines.shape == (4, 1, 64, 320)
    for target in targets:
        assert "".join(ALPHABET[k - 1] for k in target["tokens"].tolist()) == target["text"]
    ((_, pages),) = open_coco(written / "pages", PLAIN, workers=0).test(4)
    assert np.isfinite(torch.cat([page["boxes"] for page in pages]).numpy()).all()
    assert {int(k) for page in pages for k in page["labels"]} <= {1}
