"""Pixels of images of every depth and colour, against arithmetic; folders as users have them."""

import os
import struct

import numpy as np
import pytest
from PIL import Image

from pruner.data.decoding import decode_image
from pruner.data.image_folder import open_images
from pruner.errors import PrunerError, PrunerWarning

RAMP = np.tile(np.arange(0, 256, 5, dtype=np.uint8), (8, 1))


def write_tiff(path, values, bits):
    """Write one strip of little-endian grey values that declare so many bits of their 16."""
    height, width = values.shape
    if bits == 12:  # two values in three bytes, the high bits first
        a, b = values[:, ::2].astype(int), values[:, 1::2].astype(int)
        data = np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], -1).astype(np.uint8).tobytes()
    else:
        data = values.astype("<u2").tobytes()
    tags = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, 1),
            (273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, len(data))]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    head = struct.pack("<2sHI", b"II", 42, 8 + len(data))
    path.write_bytes(head + data + struct.pack("<H", len(tags)) + entries + bytes(4))


def grey(path):
    return np.asarray(decode_image(path))[..., 0].astype(int)


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_sixteen_bits_are_scaled_by_their_range(tmp_path, ending):
    path = tmp_path / f"x.{ending}"
    Image.fromarray(RAMP.astype(np.uint16) * 257).save(path)
    assert np.array_equal(grey(path), RAMP)


@pytest.mark.parametrize("bits", [12, 16])
def test_a_tiff_declares_its_depth(tmp_path, bits):
    path, white = tmp_path / "x.tif", 2**bits - 1
    write_tiff(path, np.rint(RAMP / 255 * white), bits)
    assert np.abs(grey(path) - RAMP).max() <= (bits == 12)


@pytest.mark.parametrize("white", [1, 255])
def test_floats_are_brightness(tmp_path, white):
    Image.fromarray((RAMP / 255 * white).astype(np.float32)).save(tmp_path / "x.tif")
    assert np.array_equal(grey(tmp_path / "x.tif"), RAMP)


@pytest.mark.parametrize("least, most", [(-1.0, 1.0), (0.0, 4000.0), (0.0, np.nan)])
def test_values_of_which_none_is_white_are_refused(tmp_path, least, most):
    Image.fromarray(np.linspace(least, most, 64, dtype=np.float32).reshape(8, 8)).save(
        tmp_path / "x.tif"
    )
    with pytest.raises(PrunerError, match="none is known to be white"):
        decode_image(tmp_path / "x.tif")


def test_colours_of_other_models_and_alpha(tmp_path):
    red = np.stack([RAMP, RAMP // 2, 255 - RAMP], -1)
    alpha = np.concatenate([red, np.full_like(RAMP, 100)[..., None]], -1)
    Image.fromarray(alpha).save(tmp_path / "rgba.png")
    Image.fromarray(red).convert("CMYK").save(tmp_path / "cmyk.tif")
    Image.fromarray(red).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "p.png")
    for name, off in (("rgba.png", 0), ("cmyk.tif", 1), ("p.png", 16)):
        assert np.abs(np.asarray(decode_image(tmp_path / name)).astype(int) - red).max() <= off


def save_images(folder, ending="jpg", count=2):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(np.full((8, 8, 3), 40 * number, np.uint8)).save(
            folder / f"{number}.{ending}"
        )


@pytest.mark.parametrize("held_out", ["valid", "Val", "validation"])
def test_what_pillow_reads_is_found_wherever_it_lies(tmp_path, held_out, recwarn):
    for ending in ("JPEG", "webp", "bmp", "tif", "gif", "ppm"):
        save_images(tmp_path / "train" / ending, ending)
    save_images(tmp_path / "train" / "nested" / "a" / "b", "png")
    os.symlink(tmp_path / "train", tmp_path / "train" / "nested" / "loop")
    for name in ("JPEG", "webp", "bmp", "tif", "gif", "ppm", "nested"):
        save_images(tmp_path / held_out / name)
    data = open_images(tmp_path, 8, outputs=7)
    counts = np.bincount(data._train.labels)
    assert list(counts[:1]) == [2] and data._test is not None and len(data._test.files) == 14
    assert all(count >= 2 for count in counts)


def test_what_is_left_out_is_said(tmp_path):
    save_images(tmp_path / "train" / "a")
    save_images(tmp_path / "test" / "a")
    save_images(tmp_path / "test" / "only_here")
    (tmp_path / "train" / "empty").mkdir()
    (tmp_path / "train" / "a" / "notes.txt").write_text("x")
    (tmp_path / "train" / "stray.jpg").write_text("x")
    os.symlink(tmp_path / "nowhere", tmp_path / "train" / "a" / "x.jpg")
    with pytest.warns(PrunerWarning) as said:
        data = open_images(tmp_path, 8)
    text = "; ".join(str(one.message) for one in said)
    assert data.classes == ("a", "empty", "only_here") and len(data._train.files) == 2
    assert "3 files under train are not read" in text and "1 .txt" in text and "links to" in text
    assert "no images in class folders under train: empty, only_here" in text
    assert "no images in class folders under test: empty" in text and len(data.notes) == 3
