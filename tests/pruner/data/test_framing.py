"""Images, masks, maps and boxes move together: against a point that is followed through."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image

from pruner.data.framing import Frame, Framing
from pruner.errors import PrunerError

NEAREST = Image.Resampling.NEAREST


@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("image", [(40, 64), (64, 40), (90, 31), (12, 9)])
@pytest.mark.parametrize("seed", [None, *range(6)])
def test_everything_moves_with_the_image(fit, image, seed):
    rng = None if seed is None else random.Random(seed)
    frame = Framing(fit).place(image, (32, 48), rng)
    values = np.zeros(image, np.uint8)
    top, left = image[0] // 2, image[1] // 3
    values[top : top + 5, left : left + 4] = 200
    cut = frame.cut_image(Image.fromarray(values), NEAREST, (7,))[0]
    mask = frame.cut_mask(values, 7)
    assert cut.shape == mask.shape == (32, 48) and (cut == mask).mean() > 0.97  # ties
    assert np.array_equal(frame.cut_map(values[None], values >= 0, True)[0][0], mask * (mask != 7))
    boxes, keep = frame.cut_boxes(np.array([[left, top, left + 4, top + 5]]))
    found = np.argwhere(mask == 200)
    if keep[0] and len(found):
        low, high = found.min(0), found.max(0) + 1
        scale = max(frame.inner[2] / (frame.box[2] - frame.box[0]),
                    frame.inner[3] / (frame.box[3] - frame.box[1]))  # fmt: skip
        expected = np.array([low[1], low[0], high[1], high[0]])
        assert np.abs(boxes[0] - expected).max() <= 0.51 + scale * 0.01
    if fit == "letterbox":
        inside = np.zeros((32, 48), bool)
        x, y, width, height = frame.inner
        inside[y : y + height, x : x + width] = True
        inside = inside[:, ::-1] if frame.flip else inside
        assert np.array_equal(mask == 7, ~inside)


def test_evaluation_shows_everything_and_training_at_random():
    framing = Framing()
    assert framing.place((30, 40), (8, 8), None).box == (0, 0, 40, 30)
    frames = [framing.place((30, 40), (8, 8), random.Random(k)) for k in range(200)]
    shares = [(f.box[2] - f.box[0]) * (f.box[3] - f.box[1]) / 1200 for f in frames]
    assert 0.2 < min(shares) < 0.35 and max(shares) > 0.85
    assert 0.4 < np.mean([f.flip for f in frames]) < 0.6
    whole = Framing(scale=(1.0, 1.0), flip=0.0).place((30, 40), (8, 8), random.Random(0))
    assert whole.box == (0, 0, 40, 30) and not whole.flip


def test_crops_are_not_resized():
    values = np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)
    for rng in (None, random.Random(1)):
        frame = Framing("crop", flip=0.0).place((50, 70), (32, 48), rng)
        left, top, *_ = map(int, frame.box)
        cut = frame.cut_image(Image.fromarray(values), Image.Resampling.BICUBIC, (0, 0, 0))
        expected = values[top : top + 32, left : left + 48].transpose(2, 0, 1)
        assert np.array_equal(cut, expected)
        twice = frame.scale(2)
        assert twice.size == (64, 96) and twice.box == tuple(2 * edge for edge in frame.box)


def test_boxes_out_of_sight_are_gone():
    frame = Frame((100, 100), (50, 50), (50.0, 0.0, 100.0, 50.0), (0, 0, 50, 50), training=True)
    boxes = np.array([[0, 0, 40, 40], [40, 10, 80, 30], [20, 10, 70, 20], [60, 5, 60.4, 30]])
    cut, keep = frame.cut_boxes(boxes)
    assert keep.tolist() == [False, True, False, False]
    assert cut.tolist() == [[0, 10, 30, 30]]


def test_unknown_values_do_not_bleed():
    depth = np.full((8, 8), 5.0, np.float32)
    depth[:, 4:] = np.nan
    frame = Framing().place((8, 8), (4, 4), None)
    cut, known = frame.cut_map(depth[None], ~np.isnan(depth), nearest=False)
    assert known[:, :2].all() and not known[:, 2:].any()
    assert np.allclose(cut[0][known], 5) and (cut[0][~known] == 0).all()


@pytest.mark.parametrize("bad", [{"fit": "zoom"}, {"scale": (0.0, 1.0)}, {"ratio": (2.0, 1.0)},
                                 {"flip": 2.0}])  # fmt: skip
def test_wrong_settings_are_refused(bad):
    with pytest.raises(PrunerError, match=next(iter(bad))):
        Framing(**bad)
