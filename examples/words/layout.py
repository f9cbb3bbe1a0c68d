"""Composes lines to be read, and pages on which words are to be found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..scenes.compose import crop_photo
from .draw import DrawnWord, draw_word
from .text import draw_text

CONTRAST = 70
"""Least difference of brightness, of 255, between ink and what is behind it on average."""


@dataclass(frozen=True)
class Page:
    """A photograph with words.

    Attributes:
        image: RGB.
        words: What they say.
        boxes: Around the ink of each: left, top, right, bottom in pixels, float64 [words, 4].
        corners: Of each word's characters, as in `DrawnWord`, on the page.
    """

    image: Image.Image
    words: tuple[str, ...]
    boxes: NDArray[np.float64]
    corners: tuple[NDArray[np.float64], ...]


def compose_line(
    words: Sequence[str], fonts: Sequence[Path], photos: Sequence[Path], seed: Sequence[int]
) -> tuple[Image.Image, str]:
    """Draw a line of text on a piece of a photograph; return it and what it says."""
    dice = np.random.default_rng(seed)
    height = dice.uniform(18, 44)
    square = crop_photo(photos[int(dice.integers(len(photos)))], 256, dice)
    word = change_word(words, fonts, square, height, dice, blur=1.2)
    across, down = (round(height * dice.uniform(0.08, 0.3)) for _ in range(2))
    width, tall = word.picture.width + 2 * across, word.picture.height + 2 * down
    x, y = (int(dice.integers(256 - 32)) for _ in range(2))
    behind = square.crop((x, y, x + 32, y + 32)).resize((width, tall), Image.Resampling.BICUBIC)
    word = recolour(word, behind, dice)
    behind.paste(word.picture, (across, down), word.picture)
    return behind, word.text


def compose_page(
    words: Sequence[str],
    fonts: Sequence[Path],
    photos: Sequence[Path],
    size: int,
    seed: Sequence[int],
    most: int = 7,
) -> Page:
    """Draw one to `most` words on a photograph of size x size pixels, apart from each other."""
    dice = np.random.default_rng(seed)
    image = crop_photo(photos[int(dice.integers(len(photos)))], size, dice)
    said: list[str] = []
    boxes: list[tuple[int, int, int, int]] = []
    corners = []
    for _ in range(int(dice.integers(1, most + 1))):
        height = size * dice.uniform(0.05, 0.12)
        word = change_word(words, fonts, image, height, dice, blur=0.6, single=True)
        width, tall = word.picture.size
        if width + 8 >= size:
            continue
        for _ in range(10):
            x, y = int(dice.integers(4, size - width - 3)), int(dice.integers(4, size - tall - 3))
            box = (x, y, x + width, y + tall)
            if all(is_apart(box, other, round(height * 0.7)) for other in boxes):
                word = recolour(word, image.crop(box), dice)
                image.paste(word.picture, (x, y), word.picture)
                said.append(word.text)
                boxes.append(box)
                corners.append(word.corners + np.array((x, y)))
                break
    return Page(image, tuple(said), np.array(boxes, float).reshape(-1, 4), tuple(corners))


def change_word(
    words: Sequence[str],
    fonts: Sequence[Path],
    behind: Image.Image,
    height: float,
    dice: np.random.Generator,
    blur: float,
    single: bool = False,
) -> DrawnWord:
    """Draw a random text in a random font, turned by at most three degrees, a little blurred."""
    text = draw_text(words, dice)
    text = text.split(" ")[0] if single else text
    font = fonts[int(dice.integers(len(fonts)))]
    radius = dice.uniform(0, blur) if dice.random() < 0.5 else 0.0
    return draw_word(text, font, height, angle=dice.uniform(-3, 3), blur=radius * height / 40)


def recolour(word: DrawnWord, behind: Image.Image, dice: np.random.Generator) -> DrawnWord:
    """Give the ink a random colour that stands out from what is behind it."""
    brightness = np.asarray(behind.convert("L"), float).mean()
    while True:
        colour = dice.integers(0, 256, 3)
        if abs(float(colour @ (0.299, 0.587, 0.114)) - brightness) >= CONTRAST:
            break
    picture = Image.new("RGBA", word.picture.size, tuple(int(c) for c in colour))
    picture.putalpha(word.picture.getchannel("A"))
    return DrawnWord(word.text, picture, word.corners)


def is_apart(box: Sequence[int], other: Sequence[int], gap: int) -> bool:
    """Whether two boxes are at least so many pixels apart."""
    return any(
        box[k] >= other[k + 2] + gap or other[k] >= box[k + 2] + gap for k in range(2)
    )  # fmt: skip
