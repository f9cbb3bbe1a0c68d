"""Region and affinity maps of CRAFT (arXiv 1904.01941): its targets, and the boxes in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def render_maps(
    corners: Sequence[NDArray[np.float64]], shape: tuple[int, int], stride: int = 2
) -> NDArray[np.float32]:
    """Return float32 [2, h / stride, w / stride]: where characters are, and where they join.

    Every character is a Gaussian that falls to 22% at its box's edge; so is every gap between two
    neighbours of a word, between their middles.

    Args:
        corners: Of every word's characters, [characters, 4, 2] in pixels.
        shape: h and w of the picture.
        stride: Pixels of the picture for one of the maps.
    """
    maps = np.zeros((2, shape[0] // stride, shape[1] // stride), np.float32)
    rows, columns = np.mgrid[: maps.shape[1], : maps.shape[2]] + 0.5
    for word in corners:
        middles = word.mean(1) / stride
        sizes = np.ptp(word, axis=1) / stride
        joints = (middles[:-1] + middles[1:]) / 2
        spans = np.stack([np.diff(middles[:, 0]), (sizes[:-1, 1] + sizes[1:, 1]) / 4], axis=1)
        for layer, centres, extents in ((0, middles, sizes), (1, joints, spans)):
            for (x, y), (width, height) in zip(centres, extents):
                far = ((columns - x) / max(width, 1)) ** 2 + ((rows - y) / max(height, 1)) ** 2
                np.maximum(maps[layer], np.exp(-6 * far), out=maps[layer])
    return maps


def find_boxes(
    region: NDArray[np.float32], affinity: NDArray[np.float32], stride: int = 2,
    peak: float = 0.7, low: float = 0.4, link: float = 0.4,
) -> NDArray[np.float64]:  # fmt: skip
    """Return the words of one picture's maps: left, top, right, bottom in pixels, [words, 4].

    A word is a connected piece of what is above `low` in the region map or above `link` in the
    affinity map, has a region of `peak` somewhere, and is widened by what the thresholds took.
    """
    pieces, count = ndimage.label((region > low) | (affinity > link), np.ones((3, 3)))
    found = []
    for number, place in enumerate(ndimage.find_objects(pieces), start=1):
        own = pieces[place] == number
        if own.sum() < 10 or region[place][own].max() < peak:
            continue
        # Joints alone are no ink.
        rows, columns = np.nonzero(own & (region[place] > low))
        top, left = rows.min() + place[0].start, columns.min() + place[1].start
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        wider = np.sqrt(own.sum() * min(width, height) / (width * height))
        found.append((left - wider, top - wider, left + width + wider, top + height + wider))
    boxes = np.array(found, float).reshape(-1, 4) * stride
    return boxes.clip(0, (region.shape[1] * stride, region.shape[0] * stride) * 2)
