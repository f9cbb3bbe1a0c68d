"""Render words on photographs: OUT/lines to be read, OUT/pages on which they are to be found.

    apt-get download fonts-liberation2 fonts-freefont-ttf fonts-lato fonts-open-sans
    for f in fonts-*.deb; do dpkg -x $f data/fonts; done    # or leave --fonts out: matplotlib's
    python examples/prepare.py imagenet                     # photographs; or any by --photos
    python -m examples.words data/words --fonts data/fonts

OUT/lines/{train,val} have images/00000.png and labels.tsv, and OUT/lines/alphabet.txt names the
characters that EasyOCR's recognizer knows. OUT/pages/{train,val} have images/00000.jpg and
annotations.json, COCO's with a box, the text and the corners of every character of each word.
OUT/sheet.png shows the first of val. Words are those of Python's own reference; val has other
words, other fonts (where there are ten or more) and other photographs than train.
The same fonts, photographs, seed and version of Python give the same pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..scenes.cutouts import find_photos, split_fifth
from .draw import find_fonts
from .files import write_lines, write_pages
from .layout import Page
from .maps import render_maps
from .text import ALPHABET, list_words


def draw_sheet(lines: Sequence[tuple[Image.Image, str]], pages: Sequence[Page]) -> Image.Image:
    """Return one picture of lines with what they say, and pages with boxes and CRAFT's maps."""
    size = pages[0].image.width
    tall = -(-len(lines) // 6) * 80
    sheet = Image.new("RGB", (max(6 * 300, 6 * size), tall + -(-len(pages) // 3) * size), "white")
    brush = ImageDraw.Draw(sheet)
    for k, (image, text) in enumerate(lines):
        x, y = k % 6 * 300, k // 6 * 80
        small = image.copy()
        small.thumbnail((290, 60))
        sheet.paste(small, (x, y))
        brush.text((x, y + 62), text, fill="black")
    for k, page in enumerate(pages):
        x, y = k % 3 * 2 * size, tall + k // 3 * size
        image = page.image.copy()
        pen = ImageDraw.Draw(image)
        for box, corners in zip(page.boxes.tolist(), page.corners):
            pen.rectangle([round(v) for v in box], outline="red")
            for quad in corners:
                pen.polygon([tuple(p) for p in quad], outline="cyan")
        maps = render_maps(page.corners, (size, size), 1)
        colours = np.stack([maps[0], maps[1], np.zeros_like(maps[0])], axis=2)
        sheet.paste(image, (x, y))
        sheet.paste(Image.fromarray((255 * colours).astype(np.uint8)), (x + size, y))
    return sheet


def main() -> None:
    """Render what the arguments ask for."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.words", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--fonts", type=Path, help="folder; default: matplotlib's own fonts")
    parser.add_argument("--photos", type=Path, default=Path("data/imagenet-1000"))
    parser.add_argument("--lines", type=int, nargs=2, default=(4000, 1000), metavar=("N", "M"))
    parser.add_argument("--pages", type=int, nargs=2, default=(600, 200), metavar=("N", "M"))
    parser.add_argument("--size", type=int, default=320, help="of pages, in pixels (default 320)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    try:
        fonts, photos = find_fonts(given.fonts), find_photos(given.photos)
    except FileNotFoundError as error:
        parser.error(str(error))
    words = split_fifth(list_words())
    faces = split_fifth(fonts) if len(fonts) >= 10 else (fonts, fonts)
    grounds = split_fifth(photos)
    for k, name in enumerate(("train", "val")):
        of = (words[k], faces[k], grounds[k])
        print(f"{name}: {len(of[0])} words, {len(of[1])} fonts, {len(of[2])} photographs")
        lines = write_lines(
            given.out / "lines" / name, *of, count=given.lines[k], seed=(given.seed, k, 0)
        )
        pages = write_pages(
            given.out / "pages" / name, *of,
            count=given.pages[k], size=given.size, seed=(given.seed, k, 1),
        )  # fmt: skip
    (given.out / "lines" / "alphabet.txt").write_text(ALPHABET + "\n", encoding="utf-8")
    draw_sheet(lines, pages).save(given.out / "sheet.png")


if __name__ == "__main__":
    main()
