"""Pairs of images and class masks: every kind of mask, both layouts, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pruner.data import Framing, Preprocessing, open_masks
from pruner.data.mask_values import read_mask
from pruner.errors import PrunerError, PrunerWarning

HOW = Preprocessing((8, 12), (0.0,) * 3, (1.0,) * 3)


def make_pair(stem, values, image_folder, mask_folder, mode="L"):
    """Write an image whose red channel is ten times the class, and the mask."""
    for folder in (image_folder, mask_folder):
        folder.mkdir(parents=True, exist_ok=True)
    red = np.where(values == 255, 0, values).astype(np.uint8) * 10
    Image.fromarray(np.stack([red, red * 0, red * 0], -1)).save(image_folder / f"{stem}.png")
    save_mask(mask_folder / f"{stem}.png", values, mode)


def save_mask(path, values, mode):
    grey = values.astype(np.uint8)
    if mode == "P":
        image = Image.fromarray(grey, "P")
        image.putpalette(list(np.random.default_rng(0).integers(0, 255, 768)))
    elif mode == "I;16":
        image = Image.fromarray(values.astype(np.uint16))
    elif mode == "1":
        image = Image.fromarray(values > 0)
    elif mode in ("RGB", "LA", "RGBA"):
        image = Image.fromarray(grey).convert(mode)
    else:
        image = Image.fromarray(grey)
    image.save(path)


def make_folder(root, mode="L", transposed=False, count=3, size=(16, 24)):
    rng = np.random.default_rng(1)
    for split in ("train", "val"):
        for k in range(count):
            values = rng.integers(0, 4, (size[0] // 4, size[1] // 4)).repeat(4, 0).repeat(4, 1)
            values[:2] = 255
            places = (root / "images" / split, root / "masks" / split)
            if not transposed:
                places = (root / split / "images", root / split / "masks")
            make_pair(f"{k:03}", values, *places, mode)


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "RGB", "LA", "RGBA"])
@pytest.mark.parametrize("transposed", [False, True])
def test_masks_of_every_mode_move_with_their_image(tmp_path, mode, transposed):
    make_folder(tmp_path, mode, transposed)
    data = open_masks(tmp_path, HOW, outputs=4, workers=0)
    for batches in (data.test(2), data.train(2, seed=1)):
        for images, masks in batches:
            assert images.shape[1:] == (3, 8, 12) and masks.dtype == torch.int64
            seen = masks.clone()
            seen[masks == 255] = 0
            # The image is interpolated, the mask is not: they agree but for edges.
            assert ((images[:, 0] * 25.5 - seen).abs() < 0.3).float().mean() > 0.4
            assert set(masks.unique().tolist()) <= {0, 1, 2, 3, 255}
    assert len(data.train(2)) == 1 and [len(y) for _, y in data.test(2)] == [2, 1]


def test_whole_blocks_are_exact(tmp_path):
    make_folder(tmp_path)
    _, masks = next(iter(open_masks(tmp_path, HOW, workers=0).test(3)))
    raw = read_mask(tmp_path / "val/masks/000.png")
    assert np.array_equal(masks[0].numpy(), raw[1::2, 1::2]) and masks[0, 0, 0] == 255


def test_sixteen_bits_one_bit_and_a_shift(tmp_path):
    values = np.arange(16).reshape(4, 4) * 100
    save_mask(tmp_path / "deep.png", values, "I;16")
    assert np.array_equal(read_mask(tmp_path / "deep.png"), values)
    save_mask(tmp_path / "bit.png", values, "1")
    assert np.array_equal(read_mask(tmp_path / "bit.png"), values > 0)
    make_folder(tmp_path / "data")
    data = open_masks(tmp_path / "data", HOW, outputs=3, shift=1, workers=0)
    (_, masks), *_ = data.test(3)
    (_, plain), *_ = open_masks(tmp_path / "data", HOW, workers=0).test(3)
    expected = torch.where((plain == 0) | (plain == 255), 255, plain - 1)
    assert torch.equal(masks, expected)


def test_names_and_numbers_of_classes(tmp_path):
    make_folder(tmp_path)
    (tmp_path / "classes.txt").write_text("sky\nroad\ntree\ncar\n")
    data = open_masks(tmp_path, HOW, outputs=4, workers=0)
    assert data.classes == ("sky", "road", "tree", "car")
    with pytest.raises(PrunerError, match=r"classes\.txt: 4 classes, but the network has 21"):
        open_masks(tmp_path, HOW, outputs=21)
    (tmp_path / "classes.txt").write_text("sky\nroad\n")
    with pytest.raises(PrunerError, match=r"masks.000.png: value [23], but there are 2 classes"):
        list(open_masks(tmp_path, HOW, workers=0).test(1))


def test_what_has_no_partner_is_said(tmp_path):
    make_folder(tmp_path)
    (tmp_path / "train/masks/001.png").unlink()
    (tmp_path / "val/images/002.png").unlink()
    with pytest.warns(PrunerWarning):
        data = open_masks(tmp_path, HOW, workers=0)
    assert data.notes == (
        "1 files of train have none in masks and are not read (first train/images/001.png)",
        "1 files of test have none in images and are not read (first val/masks/002.png)",
    )
    assert len(data.training) == 2


def test_what_cannot_be_read_is_one_line(tmp_path):
    with pytest.raises(PrunerError, match="no such data folder"):
        open_masks(tmp_path / "absent", HOW)
    (tmp_path / "train/images").mkdir(parents=True)
    with pytest.raises(PrunerError, match="no folder masks or labels or annotations"):
        open_masks(tmp_path, HOW)
    make_folder(tmp_path, count=1)
    masks = tmp_path / "train/masks"
    (masks / "000.png").rename(masks / "other.png")
    with pytest.raises(PrunerError, match="no file under train/images has the name of one under"):
        open_masks(tmp_path, HOW)
    (masks / "other.png").rename(masks / "000_seg.png")
    make_folder(tmp_path / "second", count=1)
    assert open_masks(tmp_path / "second", HOW, suffix="").fingerprint()
    Image.new("RGB", (24, 16), (1, 2, 3)).save(tmp_path / "second/val/masks/000.png")
    with pytest.raises(PrunerError, match="a mask of colours"):
        list(open_masks(tmp_path / "second", HOW, workers=0).test(1))
    Image.new("L", (16, 24)).save(tmp_path / "second/val/masks/000.png")
    with pytest.raises(PrunerError, match=r"24 x 16 pixels, but its target .* has 16 x 24 \(turn"):
        list(open_masks(tmp_path / "second", HOW, workers=0).test(1))
    (tmp_path / "second/val/masks/000.png").write_bytes(b"nothing")
    with pytest.raises(PrunerError, match=r"masks.000.png: not a readable image"):
        list(open_masks(tmp_path / "second", HOW, workers=1).test(1))
    Image.new("L", (16, 24)).save(tmp_path / "second/val/images/000.jpg")
    with pytest.raises(PrunerError, match=r"000\.jpg and 000\.png have one name"):
        open_masks(tmp_path / "second", HOW)


def test_padding_is_ignored_and_grey_networks_are_fed(tmp_path):
    make_folder(tmp_path, size=(16, 16))
    grey = Preprocessing((8, 12), (0.5,), (0.25,))
    data = open_masks(tmp_path, grey, framing=Framing("letterbox"), workers=0)
    (images, masks), *_ = data.test(3)
    assert images.shape == (3, 1, 8, 12) and (masks[:, :, :2] == 255).all()
    assert images[:, :, :, :2].abs().max() < 0.02  # the mean
    other = open_masks(tmp_path, grey, workers=0)
    assert data.fingerprint() != other.fingerprint()
    suffixed = tmp_path / "train/masks"
    for path in [*suffixed.iterdir(), *(tmp_path / "val/masks").iterdir()]:
        path.rename(path.with_stem(path.stem + "_seg"))
    assert len(open_masks(tmp_path, grey, suffix="_seg").training) == 3
