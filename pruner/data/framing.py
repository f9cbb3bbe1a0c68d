"""Framing: brings an image and its dense target to the network's input by the same geometry."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from ..errors import PrunerError
from ..utils import wrong_value

FITS = ("stretch", "letterbox", "crop")
Size = tuple[int, int]


@dataclass(frozen=True)
class Framing:
    """How images of any size become the network's, together with masks, maps and boxes.

    Attributes:
        fit: ``"stretch"`` resizes the whole image to the input's height and width; ``"letterbox"``
            keeps its proportions and pads; ``"crop"`` cuts the input out of it without resizing
            (the centre, in training any place; smaller images are enlarged to cover the input),
            which restoration needs.
        scale: Least and greatest share of the area that a training crop shows, for the first two
            (1, 1: the whole image).
        ratio: Least and greatest width : height of such a crop, relative to the image's.
        flip: Share of training images that are mirrored left to right.
    """

    fit: str = "stretch"
    scale: tuple[float, float] = (0.25, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise wrong_value("fit", f"one of {', '.join(FITS)}", self.fit)
        if not (len(self.scale) == 2 and 0 < self.scale[0] <= self.scale[1] <= 1):
            raise wrong_value("scale", "two rising numbers in (0, 1]", self.scale)
        if not (len(self.ratio) == 2 and 0 < self.ratio[0] <= self.ratio[1]):
            raise wrong_value("ratio", "two rising numbers above 0", self.ratio)
        if not 0 <= self.flip <= 1:
            raise wrong_value("flip", "a share from 0 to 1", self.flip)

    def place(self, image: Size, size: Size, rng: random.Random | None) -> "Frame":
        """Choose the part of an image that the network sees, at random where rng is given.

        Args:
            image: Height and width of the image.
            size: Height and width of the network's input.
            rng: Of the sample; None shows the whole image, or its centre where it is cropped.
        """
        if self.fit == "crop":
            box = _place_crop(image, size, rng)
        elif rng is None or self.scale == (1.0, 1.0):
            box = (0.0, 0.0, float(image[1]), float(image[0]))
        else:
            box = self._draw_box(image, rng)
        flip = rng is not None and rng.random() < self.flip
        inner = _center(box, size) if self.fit == "letterbox" else (0, 0, size[1], size[0])
        return Frame(image, size, box, inner, flip, rng is not None)

    def _draw_box(self, image: Size, rng: random.Random) -> tuple[float, float, float, float]:
        height, width = image
        for _ in range(10):
            share = rng.uniform(*self.scale)
            ratio = math.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            w = round(width * math.sqrt(share * ratio))
            h = round(height * math.sqrt(share / ratio))
            if 0 < w <= width and 0 < h <= height:
                left, top = rng.randint(0, width - w), rng.randint(0, height - h)
                return float(left), float(top), float(left + w), float(top + h)
        return 0.0, 0.0, float(width), float(height)


@dataclass(frozen=True)
class Frame:
    """One placement: the box of the image that is shown, and where it lies in the input.

    Attributes:
        image: Height and width of the image.
        size: Height and width of the input.
        box: Left, top, right and bottom of the image's part that is shown, in its pixels.
        inner: Left, top, width and height of that part in the input, in the input's pixels; what
            lies outside is padded.
        flip: Whether the input is mirrored left to right.
        training: Whether boxes of which little is left may be dropped.
    """

    image: Size
    size: Size
    box: tuple[float, float, float, float]
    inner: tuple[int, int, int, int]
    flip: bool = False
    training: bool = field(default=False)

    def scale(self, factor: int) -> "Frame":
        """Return the same placement for a target with so many times the pixels a side."""
        height, width = self.image
        return Frame(
            (height * factor, width * factor),
            (self.size[0] * factor, self.size[1] * factor),
            tuple(factor * edge for edge in self.box),  # type: ignore[arg-type]
            tuple(factor * edge for edge in self.inner),  # type: ignore[arg-type]
            self.flip,
            self.training,
        )

    def cut_image(
        self, image: Image.Image, resample: Image.Resampling, padding: tuple[int, ...]
    ) -> np.ndarray:
        """Return an image of 8 bits as the input shows it, uint8 [C, H, W]; padding by channel."""
        left, top, width, height = self.inner
        if image.size != (width, height) or self.box != (0.0, 0.0, *map(float, image.size)):
            image = image.resize((width, height), resample, box=self.box)
        values = np.asarray(image, np.uint8)
        values = values[..., None] if values.ndim == 2 else values
        framed = np.empty((*self.size, values.shape[2]), np.uint8)
        framed[:] = padding
        framed[top : top + height, left : left + width] = values
        return np.ascontiguousarray(self._mirror(framed).transpose(2, 0, 1))

    def cut_mask(self, mask: np.ndarray, padding: int) -> np.ndarray:
        """Return [H, W] of a mask [h, w] of the image: the nearest pixel, padding outside."""
        left, top, width, height = self.inner
        rows = _find_nearest(self.box[1], self.box[3], height, mask.shape[0])
        columns = _find_nearest(self.box[0], self.box[2], width, mask.shape[1])
        framed = np.full(self.size, padding, mask.dtype)
        framed[top : top + height, left : left + width] = mask[rows[:, None], columns]
        return np.ascontiguousarray(self._mirror(framed))

    def cut_map(
        self, values: np.ndarray, valid: np.ndarray, nearest: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return float32 [C, H, W] and bool [H, W] of a map [C, h, w] and where it is known [h, w].

        Interpolated over known values only: a pixel is known where at least half of what it is
        interpolated from is, and 0 elsewhere.
        """
        if nearest:
            known = self.cut_mask(valid.astype(np.uint8), 0).astype(bool)
            channels = [self.cut_mask(channel, 0) for channel in values]
        else:
            weight = self._interpolate(valid.astype(np.float32))
            known = np.asarray(weight >= 0.5)
            clean = np.where(valid, values, 0)
            channels = [self._interpolate(one) / np.maximum(weight, 0.5) for one in clean]
        cut = np.where(known, np.stack(channels), 0).astype(np.float32)
        return cut, known

    def cut_boxes(self, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return float32 [k, 4] in the input's pixels, and bool [n]: which of boxes [n, 4] stay.

        Boxes are left, top, right, bottom; clipped to what is shown. Those with their centre
        outside are gone, and in training those with a side below one pixel too.
        """
        left, top, width, height = self.inner
        sx, sy = self._zoom
        moved = boxes.astype(np.float64).reshape(-1, 4) - [*self.box[:2], *self.box[:2]]
        moved *= [sx, sy, sx, sy]
        centers = (moved[:, :2] + moved[:, 2:]) / 2
        keep = ((centers >= 0) & (centers <= [width, height])).all(1)
        moved = np.clip(moved, 0, [width, height, width, height])
        sides = moved[:, 2:] - moved[:, :2]
        keep &= (sides >= 1).all(1) if self.training else (sides > 0).all(1)
        moved += [left, top, left, top]
        if self.flip:
            moved[:, [0, 2]] = self.size[1] - moved[:, [2, 0]]
        kept = np.asarray(keep)
        return moved[kept].astype(np.float32), kept

    def cut_points(self, points: np.ndarray, mirror: Sequence[int]) -> np.ndarray:
        """Return float32 [k, K, 3] of x, y and visibility in the input's pixels.

        Points out of sight, or of visibility 0, are all zeros.

        Args:
            points: [k, K, 3], in the image's pixels.
            mirror: [K]: which point takes the place of each where the input is mirrored.
        """
        left, top, width, height = self.inner
        places = (points[..., :2].astype(np.float64) - self.box[:2]) * self._zoom
        seen = (points[..., 2] > 0) & ((places >= 0) & (places <= [width, height])).all(-1)
        places += [left, top]
        if self.flip:
            places[..., 0] = self.size[1] - places[..., 0]
        found = np.concatenate([places, points[..., 2:]], -1)
        found = np.where(seen[..., None], found, 0).astype(np.float32)
        return found[:, list(mirror)] if self.flip else found

    @property
    def _zoom(self) -> tuple[float, float]:
        """Pixels of the input a pixel of the image, across and down."""
        _, _, width, height = self.inner
        return width / (self.box[2] - self.box[0]), height / (self.box[3] - self.box[1])

    def _interpolate(self, channel: np.ndarray) -> np.ndarray:
        left, top, width, height = self.inner
        image = Image.fromarray(np.ascontiguousarray(channel, np.float32))
        cut = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=self.box))
        framed = np.zeros(self.size, np.float32)
        framed[top : top + height, left : left + width] = cut
        return np.ascontiguousarray(self._mirror(framed))

    def _mirror(self, framed: np.ndarray) -> np.ndarray:
        return framed[:, ::-1] if self.flip else framed


def check_same_size(path: str, other: str, first: Size, second: Size) -> None:
    """PrunerError unless an image and its target have one height and width."""
    if first != second:
        turned = " (turned by EXIF? set orient: true)" if first == second[::-1] else ""
        raise PrunerError(
            f"{path}: {first[1]} x {first[0]} pixels, but its target {other} has "
            f"{second[1]} x {second[0]}{turned}"
        )


def _find_nearest(start: float, stop: float, count: int, limit: int) -> np.ndarray:
    """Return the pixels [count] at the centres of equal parts from start to stop."""
    places = start + (np.arange(count) + 0.5) * ((stop - start) / count)
    return np.clip(np.floor(places).astype(np.int64), 0, limit - 1)


def _place_crop(
    image: Size, size: Size, rng: random.Random | None
) -> tuple[float, float, float, float]:
    """Return a box of the input's size, or of its proportions where the image is smaller."""
    shrink = min(1.0, image[0] / size[0], image[1] / size[1])
    height, width = min(size[0] * shrink, image[0]), min(size[1] * shrink, image[1])
    room = (image[0] - height, image[1] - width)
    if rng is None:
        top, left = (float(math.floor(space / 2)) for space in room)
    else:
        top, left = (float(rng.randint(0, math.floor(space))) for space in room)
    return left, top, left + width, top + height


def _center(box: tuple[float, float, float, float], size: Size) -> tuple[int, int, int, int]:
    """Return left, top, width and height of a box that is fitted into the input."""
    width, height = box[2] - box[0], box[3] - box[1]
    scale = min(size[1] / width, size[0] / height)
    w = min(size[1], max(1, round(width * scale)))
    h = min(size[0], max(1, round(height * scale)))
    return (size[1] - w) // 2, (size[0] - h) // 2, w, h
