"""Composes one scene, and what is true of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from .cutouts import Cutout

FAR = 5.0
"""Distance of the photograph; cut-outs are 1 to 4 away, and twice as near is twice as large."""
VISIBLE = 0.3
"""Least share of a cut-out that later ones leave visible."""
TRIES = 8


@dataclass(frozen=True)
class Scene:
    """A picture of [size, size] pixels and what is true of it.

    Attributes:
        image: RGB.
        instances: [size, size], 0 where the photograph is, k + 1 where cut-out k is on top.
        labels: The class of every cut-out, from 1 on.
        distances: How far away every cut-out is.
    """

    image: Image.Image
    instances: NDArray[np.uint8]
    labels: tuple[int, ...]
    distances: tuple[float, ...]

    @property
    def mask(self) -> NDArray[np.uint8]:
        """[size, size]: the class of every pixel, 0 for the photograph."""
        return np.array((0, *self.labels), np.uint8)[self.instances]

    @property
    def depth(self) -> NDArray[np.float32]:
        """[size, size]: how far away every pixel is, up to `FAR` for the photograph."""
        return np.array((FAR, *self.distances), np.float32)[self.instances]

    def box(self, k: int) -> tuple[int, int, int, int]:
        """Return x, y, width and height, in pixels, of what is visible of cut-out k."""
        rows, columns = np.nonzero(self.instances == k + 1)
        x, y = int(columns.min()), int(rows.min())
        return x, y, int(columns.max()) - x + 1, int(rows.max()) - y + 1

    def area(self, k: int) -> int:
        """Return the number of visible pixels of cut-out k."""
        return int((self.instances == k + 1).sum())


def compose_scene(
    cutouts: Sequence[Cutout],
    photos: Sequence[Path],
    size: int,
    seed: Sequence[int],
    most: int = 5,
) -> Scene:
    """Paste one to `most` cut-outs on a photograph, the farthest first; the seed decides it all.

    The nearer a cut-out, the larger it is and the lower it tends to stand, so that its distance can
    be told from the picture. Each is mirrored half the time, its colours are changed a little, and
    no later one hides it so far that less than `VISIBLE` of it is left.
    """
    dice = np.random.default_rng(seed)
    image = crop_photo(photos[int(dice.integers(len(photos)))], size, dice)
    instances = np.zeros((size, size), np.uint8)
    labels: list[int] = []
    distances: list[float] = []
    whole: list[int] = []  # pixels of each cut-out when nothing hid it
    classes = sorted({cutout.label for cutout in cutouts})
    for distance in sorted(dice.uniform(1, 4, dice.integers(1, most + 1)), reverse=True):
        label = classes[dice.integers(len(classes))]
        kin = [cutout for cutout in cutouts if cutout.label == label]
        picture = change_cutout(kin[dice.integers(len(kin))].open(), size, distance, dice)
        for _ in range(TRIES):
            x, y = place_cutout(picture.size, size, distance, dice)
            solid = find_solid(picture, x, y, size)
            left = [((instances == k + 1) & ~solid).sum() for k in range(len(whole))]
            inside = find_solid(picture, 0, 0, max(picture.size)).sum()
            if solid.sum() >= max(1, 0.6 * inside) and all(
                now >= VISIBLE * before for now, before in zip(left, whole)
            ):
                image.paste(picture, (x, y), picture)
                labels.append(label)
                distances.append(float(distance))
                whole.append(int(solid.sum()))
                instances[solid] = len(labels)
                break
    return Scene(image, instances, tuple(labels), tuple(distances))


def crop_photo(path: Path, size: int, dice: np.random.Generator) -> Image.Image:
    """Return a random square of a photograph, mirrored half the time, in size x size pixels."""
    with Image.open(path) as image:
        photo = image.convert("RGB")
    side = int(min(photo.size) * dice.uniform(0.7, 1))
    x, y = (int(dice.integers(length - side + 1)) for length in photo.size)
    square = photo.resize((size, size), Image.Resampling.BILINEAR, (x, y, x + side, y + side))
    if dice.random() < 0.5:
        square = square.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return square


def change_cutout(
    picture: Image.Image, size: int, distance: float, dice: np.random.Generator
) -> Image.Image:
    """Return a cut-out in the size of its distance, its colours and direction changed at random."""
    longest = size * 0.75 / distance * dice.uniform(0.8, 1.2)
    scale = longest / max(picture.size)
    shape = [max(4, round(length * scale)) for length in picture.size]
    # Colours of transparent pixels are arbitrary: resizing is to weigh colours with alpha.
    picture = picture.convert("RGBa").resize((shape[0], shape[1]), Image.Resampling.BOX)
    picture = picture.convert("RGBA")
    if dice.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    alpha = picture.getchannel("A")
    colours = picture.convert("RGB")
    kinds: tuple[Any, ...] = (
        ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color,
    )  # fmt: skip
    for kind in kinds:
        colours = kind(colours).enhance(dice.uniform(0.7, 1.3))
    if dice.random() < 0.3:
        colours = colours.filter(ImageFilter.GaussianBlur(dice.uniform(0, 1)))
    colours.putalpha(alpha)
    return colours


def place_cutout(
    shape: tuple[int, int], size: int, distance: float, dice: np.random.Generator
) -> tuple[int, int]:
    """Return x and y of a cut-out's corner: its foot stands the lower, the nearer it is."""
    width, height = shape
    x = int(dice.integers(-width // 5, max(1, size - width * 4 // 5)))
    foot = size * (0.4 + 0.6 / distance + dice.uniform(-0.2, 0.2))
    y = int(np.clip(foot - height, -height // 5, size - height * 4 // 5))
    return x, y


def find_solid(picture: Image.Image, x: int, y: int, size: int) -> NDArray[np.bool_]:
    """Return [size, size]: where a picture at x, y covers at least half of what is behind it."""
    canvas = Image.new("L", (size, size))
    canvas.paste(picture.getchannel("A"), (x, y))
    return np.asarray(canvas) >= 128
