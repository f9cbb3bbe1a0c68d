"""Image folders: what is found, how it is decoded, and that its order can be repeated."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pruner.data.image_folder import open_images
from pruner.data.loader import Batches
from pruner.data.preprocessing import Preprocessing, normalize, read_for_evaluation, shift_and_flip
from pruner.errors import PrunerError

from ..small import image_folder


def _same(left, right) -> bool:
    left, right = list(left), list(right)
    return len(left) == len(right) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(left, right, strict=True)
    )


def test_classes_are_the_sorted_union_over_the_splits(tmp_path):
    image_folder(tmp_path, splits=("train",), classes=("dog", "ant"))
    image_folder(tmp_path, splits=("val",), classes=("bee",))
    data = open_images(tmp_path, 8, outputs=3)
    assert data.classes == ("ant", "bee", "dog")
    assert set(torch.cat([y for _, y in data.train(8)]).tolist()) == {0, 2}
    assert set(torch.cat([y for _, y in data.test(8)]).tolist()) == {1}


def test_pixels_become_what_the_arithmetic_says(tmp_path):
    image_folder(tmp_path, images=1)
    data = open_images(tmp_path, 8, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 1.0))
    (images, labels), *_ = data.test(3)
    raw = np.asarray(Image.open(tmp_path / "test/bee/000.png"), np.float64) / 255
    expected = (raw - [0.1, 0.2, 0.3]) / [0.5, 0.25, 1.0]
    assert labels.tolist() == [0, 1, 2] and images.dtype == torch.float32
    assert np.allclose(images[1].permute(1, 2, 0).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("side", [(300, 200), (130, 180), (96, 96)])
def test_evaluation_preprocessing_is_torchvisions(tmp_path, interpolation, side):
    transforms = pytest.importorskip("torchvision.transforms")
    path = tmp_path / "x.png"
    noise = np.random.default_rng(1).integers(0, 255, (side[1], side[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    how = Preprocessing((96, 96), crop=0.75, interpolation=interpolation)
    oracle = transforms.Compose(
        [
            transforms.Resize(128, transforms.InterpolationMode(interpolation)),
            transforms.CenterCrop(96),
            transforms.PILToTensor(),
        ]
    )
    assert torch.equal(read_for_evaluation(path, how), oracle(Image.open(path)))


def test_shifts_and_flips_are_those_of_a_loop_over_images():
    images = torch.randint(0, 255, (6, 3, 5, 7), dtype=torch.uint8)
    dice = torch.Generator().manual_seed(3)
    found = shift_and_flip(images, dice, padding=2)
    dice = torch.Generator().manual_seed(3)
    shift = torch.randint(0, 5, (2, 6, 1), generator=dice)[..., 0]
    flip = torch.rand(6, 1, generator=dice)[:, 0] < 0.5
    for k in range(6):
        padded = torch.zeros(3, 9, 11, dtype=torch.uint8)
        padded[:, 2:7, 2:9] = images[k]
        top, left = shift[:, k].tolist()
        crop = padded[:, top : top + 5, left : left + 7]
        assert torch.equal(found[k], crop.flip(2) if flip[k] else crop)
    assert flip.any() and not flip.all()


@pytest.mark.parametrize("size", [8, 72])  # from memory, and from files
@pytest.mark.parametrize("start", [0, 2, 4])
def test_an_epoch_can_be_taken_up_anywhere(tmp_path, size, start):
    image_folder(tmp_path, side=(80, 90))
    data = open_images(tmp_path, size, workers=0)
    whole = list(data.train(8, seed=5).epoch(3))
    assert len(whole) == len(data.train(8)) == 4
    assert _same(whole[start:], data.train(8, seed=5).epoch(3, start))
    assert not _same(whole, data.train(8, seed=5).epoch(2))
    assert not _same(whole, data.train(8, seed=6).epoch(3))


def test_workers_change_nothing(tmp_path):
    image_folder(tmp_path, side=(80, 90), images=4)
    one, two = (open_images(tmp_path, 72, workers=w).train(5, seed=1) for w in (0, 2))
    assert _same(one, two)


def test_an_epoch_shows_every_image_once(tmp_path):
    image_folder(tmp_path)
    data = open_images(tmp_path, 8)
    seen = torch.cat([x for x, _ in data.train(9, augment=False)])
    kept = normalize(data._train.load_pixels(), data.preprocessing)
    assert sorted(seen.flatten(1).sum(1).tolist()) == sorted(kept.flatten(1).sum(1).tolist())


@pytest.mark.parametrize("size", [8, 72])
def test_processes_share_every_batch_out(tmp_path, size):
    image_folder(tmp_path, side=(80, 90), images=4)
    data = open_images(tmp_path, size, workers=0)
    whole = list(data.train(6, seed=2))
    left, right = (list(data.train(6, seed=2, shard=(rank, 2))) for rank in range(2))
    for (x, y), (a, b), (c, d) in zip(whole, left, right, strict=True):
        assert torch.equal(x[0::2], a) and torch.equal(x[1::2], c)
        assert torch.equal(y[0::2], b) and torch.equal(y[1::2], d)
    tested = [list(data.test(5, shard=(rank, 2))) for rank in range(2)]
    assert sum(len(y) for part in tested for _, y in part) == 12


def test_a_limit_draws_the_same_images_for_every_epoch(tmp_path):
    image_folder(tmp_path)
    data = open_images(tmp_path, 8)
    batches = data.train(5, augment=False, limit=10, seed=1)
    sums = [
        sorted(torch.cat([x for x, _ in batches.epoch(e)]).flatten(1).sum(1).tolist())
        for e in range(2)
    ]
    assert len(batches) == 2 and sums[0] == sums[1] and len(sums[0]) == 10
    assert len(Batches(data._train, 64, shuffle=True)) == 1  # fewer images than a batch


def test_images_of_any_mode_and_size_are_read(tmp_path):
    image_folder(tmp_path, images=1)
    Image.new("L", (20, 30), 255).save(tmp_path / "train/ant/grey.PNG")
    Image.new("RGBA", (9, 8)).save(tmp_path / "train/ant/alpha.png")
    Image.new("CMYK", (300, 10)).save(tmp_path / "train/ant/print.jpeg")
    (tmp_path / "train/ant/notes.txt").write_text("no image")
    (tmp_path / "train/ant/.hidden.png").write_text("no image")
    data = open_images(tmp_path, 8)
    assert data.train(2).images == 6
    assert torch.cat([x for x, _ in data.train(6)]).shape == (6, 3, 8, 8)


@pytest.mark.parametrize("size", [8, 72])
@pytest.mark.parametrize("damage", ["text", "truncated"])
def test_an_unreadable_image_is_named(tmp_path, size, damage):
    image_folder(tmp_path, images=2, side=(80, 80))
    path = tmp_path / "train/bee/001.png"
    content = path.read_bytes()
    path.write_bytes(b"not an image" if damage == "text" else content[: len(content) // 2])
    data = open_images(tmp_path, size, workers=1)
    with pytest.raises(PrunerError, match=r"bee.001\.png: not a readable image") as caught:
        list(data.train(2))
    assert "\n" not in str(caught.value)


def test_a_wrong_folder_is_told(tmp_path):
    with pytest.raises(PrunerError, match="no such data folder"):
        open_images(tmp_path / "absent", 8)
    with pytest.raises(PrunerError, match="no train folder; expected .* found nothing"):
        open_images(tmp_path, 8)
    (tmp_path / "train").mkdir()
    with pytest.raises(PrunerError, match="no images in class folders under train"):
        open_images(tmp_path, 8)
    image_folder(tmp_path, splits=("train",))
    with pytest.raises(PrunerError, match="3 class folders .* the network has 10 outputs"):
        open_images(tmp_path, 8, outputs=10)
    with pytest.raises(PrunerError, match="no images under val/CLASS, test/CLASS or valid/CLASS"):
        open_images(tmp_path, 8).test()
    for bad in ({"mean": (0.5,)}, {"std": (1, 0, 1)}, {"crop": 0}, {"interpolation": "magic"}):
        with pytest.raises(PrunerError, match=next(iter(bad))):
            open_images(tmp_path, 8, **bad)


def test_a_fingerprint_tells_data_sets_apart(tmp_path):
    image_folder(tmp_path, images=2)
    first = open_images(tmp_path, 8).fingerprint()
    assert first == open_images(tmp_path, 8).fingerprint()
    assert first != open_images(tmp_path, 8, crop=0.9).fingerprint()
    (tmp_path / "test/ant/000.png").unlink()
    assert first != open_images(tmp_path, 8).fingerprint()
