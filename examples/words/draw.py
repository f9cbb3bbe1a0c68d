"""Draws one word in one font, turned a little, with the corners of its characters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

HARD = ("*Hairline*", "*Thin*", "*ExtraLight*", "*Math*", "*Display*", "cm*", "STIX*")
"""Fonts that are left out: too thin to be seen when small, or for formulas."""


@dataclass(frozen=True)
class DrawnWord:
    """A word on a transparent picture.

    Attributes:
        text: What it says.
        picture: RGBA, as large as the ink.
        corners: Of its characters, blanks included, in the picture: [characters, 4, 2], clockwise
            from the upper left, x before y.
    """

    text: str
    picture: Image.Image
    corners: NDArray[np.float64]


def find_fonts(folder: Path | None = None, without: Sequence[str] = HARD) -> list[Path]:
    """List fonts with Latin letters in a folder and below it, or those that matplotlib brings.

    Raises:
        FileNotFoundError: There are none.
    """
    if folder is None:
        import matplotlib

        folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    paths = [p for p in folder.rglob("*") if p.suffix.lower() in (".ttf", ".otf")]
    wanted = [p for p in paths if not any(fnmatch(p.name, pattern) for pattern in without)]
    found = [p for p in wanted if has_letters(p)]
    if not found:
        raise FileNotFoundError(f"{folder} has no fonts (.ttf, .otf) with Latin letters")
    return sorted(found, key=lambda p: (p.name, p))


def has_letters(path: Path) -> bool:
    """Whether a font draws letters and digits differently: what it lacks all looks the same."""
    font = ImageFont.truetype(str(path), 20)
    return len({bytes(font.getmask(character)) for character in "AgQ8\uffff"}) == 5


def draw_word(
    text: str,
    font: Path,
    height: float,
    colour: tuple[int, int, int] = (0, 0, 0),
    angle: float = 0.0,
    blur: float = 0.0,
) -> DrawnWord:
    """Draw a text.

    Args:
        text: At least one character.
        font: File.
        height: Of the letters, in pixels, roughly.
        colour: Of the ink.
        angle: Degrees, counterclockwise.
        blur: Radius in pixels.
    """
    face = ImageFont.truetype(str(font), max(8, round(height)))
    left, top, right, bottom = face.getbbox(text)
    edge = 4 + int(3 * blur)
    shape = (int(right - left) + 2 * edge, int(bottom - top) + 2 * edge)
    ink = Image.new("L", shape)
    ImageDraw.Draw(ink).text((edge - left, edge - top), text, fill=255, font=face)
    ends = [face.getlength(text[:k]) + edge - left for k in range(len(text) + 1)]
    corners = np.array([
        [(a, edge), (b, edge), (b, edge + bottom - top), (a, edge + bottom - top)]
        for a, b in zip(ends, ends[1:])
    ])  # fmt: skip
    turned = ink.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    if blur:
        turned = turned.filter(ImageFilter.GaussianBlur(blur))
    radians = np.deg2rad(angle)
    turn = np.array([[np.cos(radians), np.sin(radians)], [-np.sin(radians), np.cos(radians)]])
    middle = np.array(shape) / 2
    corners = (corners - middle) @ turn.T + np.array(turned.size) / 2
    box = turned.point(lambda value: 255 if value >= 64 else 0).getbbox() or (0, 0, *turned.size)
    picture = Image.new("RGBA", turned.size, colour)
    picture.putalpha(turned)
    return DrawnWord(text, picture.crop(box), corners - np.array(box[:2]))
