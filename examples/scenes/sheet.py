"""Draws a contact sheet: scenes with their boxes, masks and depth, to be looked at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from .compose import FAR, Scene
from .files import COLOURS


def draw_sheet(scenes: Sequence[Scene], classes: Sequence[str], columns: int = 4) -> Image.Image:
    """Return one picture of all scenes, each beside its mask and its depth (near is bright)."""
    size = scenes[0].image.width
    rows = -(-len(scenes) // columns)
    sheet = Image.new("RGB", (columns * 3 * size, rows * size))
    for k, scene in enumerate(scenes):
        x, y = k % columns * 3 * size, k // columns * size
        colours = np.array(COLOURS, np.uint8)[scene.mask % len(COLOURS)]
        near = (255 * (1 - scene.depth / FAR)).astype(np.uint8)
        sheet.paste(draw_boxes(scene, classes), (x, y))
        sheet.paste(Image.fromarray(colours), (x + size, y))
        sheet.paste(Image.fromarray(near), (x + 2 * size, y))
    return sheet


def draw_boxes(scene: Scene, classes: Sequence[str]) -> Image.Image:
    """Return the picture with a named box around every cut-out."""
    image = scene.image.copy()
    brush = ImageDraw.Draw(image)
    for k, label in enumerate(scene.labels):
        x, y, width, height = scene.box(k)
        colour = COLOURS[label % len(COLOURS)]
        brush.rectangle((x, y, x + width - 1, y + height - 1), outline=colour)
        brush.text((x + 2, y), classes[label - 1], fill=colour)
    return image
