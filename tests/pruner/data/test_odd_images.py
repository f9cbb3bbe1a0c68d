"""Images as they come: alpha, palettes, byte orders, CMYK, EXIF, frames; broken ones on request."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from pruner.data.decoding import decode_image
from pruner.data.image_folder import open_images
from pruner.errors import PrunerError, PrunerWarning

from ..small import image_folder

RAMP = np.tile(np.arange(0, 256, 5, dtype=np.uint8), (16, 1))
COLOURS = np.stack([RAMP, RAMP // 2, 255 - RAMP], -1)
GREY = np.stack([RAMP] * 3, -1)


def palette():
    return Image.fromarray(COLOURS).convert("P", palette=Image.Palette.ADAPTIVE)


def big_endian():
    return Image.frombytes("I;16B", (52, 16), (RAMP.astype(">u2") * 257).astype(">u2").tobytes())


@pytest.mark.parametrize("make, name, named, expected", [
    (lambda: Image.fromarray(RAMP).convert("LA"), "x.png", {}, GREY),
    (lambda: Image.fromarray(RAMP), "x.png", {"transparency": 5}, GREY),
    (lambda: Image.fromarray(COLOURS), "x.png", {"transparency": (0, 0, 255)}, COLOURS),
    (palette, "x.png", {"transparency": 3}, COLOURS),
    (palette, "x.png", {"transparency": bytes(range(256))}, COLOURS),
    (big_endian, "x.tif", {}, GREY),
    (lambda: Image.fromarray(RAMP > 128), "x.png", {}, (GREY > 128) * 255),
    (lambda: Image.fromarray(RAMP > 128), "x.tif", {}, (GREY > 128) * 255),
    (lambda: Image.fromarray(COLOURS).convert("CMYK"), "x.jpg", {"quality": 100}, COLOURS),
    (lambda: Image.fromarray(COLOURS).convert("YCbCr"), "x.tif", {}, COLOURS),
])  # fmt: skip
def test_odd_modes(tmp_path, make, name, named, expected):
    make().save(tmp_path / name, **named)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = np.asarray(decode_image(tmp_path / name)).astype(int)
    # Palettes, chroma and JPEG are not exact.
    assert np.abs(found - expected).mean() <= 4 and found.shape == (16, 52, 3)
    if name == "x.jpg":
        assert b"Adobe" in (tmp_path / name).read_bytes()


@pytest.mark.parametrize("ending", ["tif", "gif", "webp", "png"])
def test_of_several_frames_the_first_is_read(tmp_path, ending):
    path = tmp_path / f"x.{ending}"
    named = {"lossless": True} if ending == "webp" else {}
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    frames[0].save(path, save_all=True, append_images=frames[1:], **named)
    assert np.asarray(decode_image(path)).tolist() == [[[255, 0, 0]] * 8] * 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_an_image_on_request_only(tmp_path, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    values = np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "x.png", exif=exif)
    assert np.array_equal(np.asarray(decode_image(tmp_path / "x.png")), values)
    with Image.open(tmp_path / "x.png") as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(np.asarray(decode_image(tmp_path / "x.png", orient=True)), upright)


def test_of_32_bits_in_part_none_is_known_to_be_white(tmp_path):
    Image.fromarray(RAMP.astype(np.int32)).save(tmp_path / "x.tif")
    with pytest.raises(PrunerError, match="none is known to be white"):
        decode_image(tmp_path / "x.tif")


@pytest.mark.parametrize("size", [8, 72])
@pytest.mark.parametrize("workers", [0, 1])
def test_broken_images_of_a_folder_are_skipped_on_request(tmp_path, size, workers):
    image_folder(tmp_path, images=4, side=(80, 80))
    for split in ("train", "test"):
        (tmp_path / split / "bee/001.png").write_bytes(b"no image")
    with pytest.raises(PrunerError, match=r"bee.001\.png: not a readable image"):
        list(open_images(tmp_path, size, workers=workers).train(3))
    data = open_images(tmp_path, size, workers=workers, on_error="skip")
    with pytest.warns(PrunerWarning, match=r"skipped: .*bee.001\.png: not a readable image"):
        whole = list(data.train(3, seed=1))
    assert [len(labels) for _, labels in whole] == [3] * 4
    assert torch.cat([labels for _, labels in whole]).bincount().tolist() == [4, 4, 4]
    again = data.train(3, seed=1).epoch(0, 2)
    assert all(torch.equal(x, y) for (x, _), (y, _) in zip(whole[2:], again, strict=True))
    with pytest.warns(PrunerWarning):
        tested = torch.cat([labels for _, labels in data.test(5)])
    assert tested.tolist() == [0] * 4 + [1] * 3 + [2] * 4
    assert len(data.notes) == 2 and "1 samples" in data.notes[0]
    assert data.fingerprint() != open_images(tmp_path, size).fingerprint()


def test_grey_networks_read_folders_too(tmp_path):
    image_folder(tmp_path, images=2, side=(80, 80))
    for size in (8, 72):
        data = open_images(tmp_path, size, mean=(0.5,), std=(0.25,), workers=0)
        assert next(iter(data.train(4)))[0].shape == (4, 1, size, size)
