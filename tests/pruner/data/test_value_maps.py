"""Images with maps of values: every kind of file, units, unknown pixels, enlarged targets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pruner.data import Framing, Preprocessing, open_maps
from pruner.errors import PrunerError

HOW = Preprocessing((8, 12), (0.0,) * 3, (1.0,) * 3)
PLAIN = Framing(scale=(1.0, 1.0), flip=0.0)
DEPTH = np.arange(16 * 24).reshape(16, 24)


def make_folder(root, save, name="targets", size=(16, 24), count=2):
    for split in ("train", "test"):
        for folder in ("images", name):
            (root / split / folder).mkdir(parents=True, exist_ok=True)
        for k in range(count):
            Image.new("RGB", size[::-1], (k, 0, 0)).save(root / split / "images" / f"{k}.png")
            save(root / split / name / str(k))


def read_first(root, **named):
    data = open_maps(root, HOW, workers=0, **named)
    images, targets = next(iter(data.test(2)))
    assert images.shape == (2, 3, 8, 12) and targets["valid"].dtype == torch.bool
    return targets["map"], targets["valid"]


def save_png16(path):
    Image.fromarray(DEPTH.astype(np.uint16) * 100).save(path.with_suffix(".png"))


@pytest.mark.parametrize("kind, unit", [("png", 100), ("npy", 1), ("tif", 0.5), ("chw", 1)])
def test_values_are_those_of_the_file_times_the_scale(tmp_path, kind, unit):
    def save(path):
        if kind == "png":
            save_png16(path)
        elif kind == "tif":
            Image.fromarray((DEPTH * 0.5).astype(np.float32)).save(path.with_suffix(".tif"))
        else:
            array = DEPTH.astype(np.float64)
            np.save(path.with_suffix(".npy"), array[None] if kind == "chw" else array)

    make_folder(tmp_path, save, "depth")
    values, valid = read_first(tmp_path, scale=0.1, interpolation="nearest")
    assert values.shape == (2, 1, 8, 12) and valid.shape == (2, 1, 8, 12) and valid.all()
    assert np.allclose(values[0, 0], DEPTH[1::2, 1::2] * unit * 0.1)
    values, _ = read_first(tmp_path, scale=0.1)
    blocks = DEPTH.reshape(8, 2, 12, 2).mean((1, 3)) * unit * 0.1
    assert np.allclose(values[0, 0, 1:-1, 1:-1], blocks[1:-1, 1:-1], rtol=1e-4)


def test_integers_become_shares_of_their_range(tmp_path):
    make_folder(tmp_path / "deep", save_png16)
    values, _ = read_first(tmp_path / "deep", interpolation="nearest")
    assert np.allclose(values[0, 0], DEPTH[1::2, 1::2] * 100 / 65535)
    colours = np.random.default_rng(0).integers(0, 255, (16, 24, 3), dtype=np.uint8)
    for mode, channels in (("RGB", 3), ("RGBA", 3), ("L", 1), ("P", 3), ("1", 1)):
        image = Image.fromarray(colours).convert(mode)
        make_folder(tmp_path / mode, lambda path, image=image: image.save(path.with_suffix(".png")))
        values, _ = read_first(tmp_path / mode, interpolation="nearest")
        assert values.shape == (2, channels, 8, 12) and 0 <= values.min() < 0.2 < values.max() <= 1
    expected = colours[1::2, 1::2].transpose(2, 0, 1) / 255
    assert np.allclose(read_first(tmp_path / "RGB", interpolation="nearest")[0][0], expected)


def test_unknown_values_are_marked_and_do_not_bleed(tmp_path):
    depth = np.full((16, 24), 5.0)
    depth[:, :12], depth[0, 20] = 0, np.nan
    make_folder(tmp_path, lambda path: np.save(path.with_suffix(".npy"), depth))
    for interpolation in ("bilinear", "nearest"):
        values, valid = read_first(tmp_path, invalid=0, interpolation=interpolation)
        assert not valid[0, 0, :, :5].any() and valid[0, 0, 1:, 7:].all()
        assert torch.allclose(values[valid], torch.tensor(5.0)) and (values[~valid] == 0).all()
    values, valid = read_first(tmp_path)
    assert valid[0, 0, 1:].all() and torch.isfinite(values).all()


def test_restoration_cuts_both_at_one_place(tmp_path):
    rng = np.random.default_rng(3)
    for split in ("train", "test"):
        for k in range(3):
            sharp = rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)
            for name, values in (("inputs", sharp[::2, ::2]), ("targets", sharp)):
                (tmp_path / split / name).mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(tmp_path / split / name / f"{k}.png")
    data = open_maps(tmp_path, HOW, framing=Framing("crop"), upscale=2, workers=0)
    for batches in (data.train(3, seed=2), data.test(3)):
        (images, targets), *_ = batches
        assert targets["map"].shape == (3, 3, 16, 24) and targets["valid"].all()
        for image, fine in zip(images, targets["map"], strict=True):
            found = [fine[:, ::2, ::2], fine[:, ::2, 1::2]]  # as it is, and mirrored
            assert any(torch.allclose(image, one, atol=1e-5) for one in found)


@pytest.mark.parametrize("damage, message", [
    (lambda p: np.save(p, np.array([{}], dtype=object), allow_pickle=True), "not a readable array"),
    (lambda p: np.save(p, np.zeros(5)), r"expected numbers .* got float64 \[5\]"),
    (lambda p: p.write_bytes(b"nothing"), "not a readable array"),
    (lambda p: np.save(p, np.zeros((24, 16))), "24 x 16 pixels, but its target .* has 16 x 24"),
])  # fmt: skip
def test_what_cannot_be_read_is_named(tmp_path, damage, message):
    make_folder(tmp_path, lambda path: np.save(path.with_suffix(".npy"), DEPTH))
    damage(tmp_path / "test/targets/0.npy")
    with pytest.raises(PrunerError, match=message) as caught:
        read_first(tmp_path)
    assert "0.npy" in str(caught.value) and "\n" not in str(caught.value)


def test_settings_are_checked_and_fingerprinted(tmp_path):
    make_folder(tmp_path, save_png16)
    first = open_maps(tmp_path, HOW).fingerprint()
    assert first == open_maps(tmp_path, HOW).fingerprint()
    assert first != open_maps(tmp_path, HOW, scale=0.5).fingerprint()
    for bad in ({"interpolation": "magic"}, {"upscale": 0}):
        with pytest.raises(PrunerError, match=next(iter(bad))):
            open_maps(tmp_path, HOW, **bad)
