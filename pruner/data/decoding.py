"""Decodes image files to 8-bit RGB, whatever depth and colours they have."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from ..errors import PrunerError

_BITS_PER_SAMPLE = 258  # the tag of TIFF
_ORIENTATION = 274  # the tag of EXIF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""What shows an image upright, by its orientation."""
_WHITE_16 = 2**16 - 1
_NO_DECODER = ("MPEG", "WMF", "EPS", "PDF")  # Pillow knows them and draws none without other tools


@cache
def find_readable_endings() -> frozenset[str]:
    """Return the endings of files that Pillow decodes by itself, in lower case with the dot."""
    known = Image.registered_extensions()

    def reads(kind: str) -> bool:
        opener = Image.OPEN.get(kind, (None,))[0]
        stub = isinstance(opener, type) and issubclass(opener, ImageFile.StubImageFile)
        return opener is not None and not stub and kind not in _NO_DECODER

    return frozenset(ending for ending, kind in known.items() if reads(kind))


def decode_image(
    path: Path, size: tuple[int, int] | None = None, *, orient: bool = False
) -> Image.Image:
    """Decode to RGB; a JPEG much larger than (height, width) is decoded at a half, quarter...

    Grey values of more than 8 bits are scaled by the depth that the file declares; floats are
    brightness from 0 to 1, or to 255 where one exceeds 1. An alpha channel is dropped. Of several
    frames the first is read. Pixels are as they are stored, as in torchvision and timm, unless
    orient asks to turn them as the file's EXIF entry says.

    Raises:
        PrunerError: The file cannot be decoded, or does not say which value is white.
    """
    with open_pixels(path, size) as image:
        decoded = make_rgb(image, str(path))
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1)) if orient else None
        return decoded if turn is None else decoded.transpose(turn)


@contextmanager
def open_pixels(path: Path, size: tuple[int, int] | None = None) -> Iterator[Image.Image]:
    """Open an image file in its own mode; what Pillow raises of it within becomes PrunerError."""
    try:
        with Image.open(path) as image:
            if size is not None:
                # Never below twice the target, so that the resize still decides the quality.
                image.draft("RGB", (2 * size[1], 2 * size[0]))
            yield image
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise PrunerError(
            f"{path}: not a readable image ({error}); replace or remove it"
        ) from error


def make_rgb(image: Image.Image, name: str) -> Image.Image:
    """Return an image of any mode as 8-bit RGB; see `decode_image`. The name is for messages."""
    if image.mode == "F" or image.mode.partition(";")[0] == "I":
        return Image.fromarray(_scale_grey(image, name)).convert("RGB")
    if isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # Pillow warns of what is lost on a direct way
    return image.convert("RGB")


def _scale_grey(image: Image.Image, name: str) -> np.ndarray:
    """Return grey values of more than 8 bits as uint8 [H, W]."""
    values = np.asarray(image).astype(np.float64)
    least, most = float(values.min()), float(values.max())
    if image.mode == "F":
        white = 1.0 if most <= 1 else 255.0
    else:
        white = 2.0 ** find_depth(image) - 1
    # Of 32 bits a part may be in use: where it would be shown as black, nothing is known of white.
    unknown = white > _WHITE_16 and 0 < most < white / 255
    if unknown or not (least >= 0 and most <= white):
        raise PrunerError(
            f"{name}: grey values from {least:g} to {most:g}, of which none is known to be white; "
            "convert it to 8 or 16 bits"
        )
    return np.rint(values * (255 / white)).astype(np.uint8)


def find_depth(image: Image.Image) -> int:
    """Return the bits of a channel's value: 8, or what a TIFF declares; else 16, as in PNG, PGM."""
    if image.mode.partition(";")[0] != "I":
        return 8
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, 16)
    return int(bits[0] if isinstance(bits, tuple) else bits)
