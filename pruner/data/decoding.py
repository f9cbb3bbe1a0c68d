"""Decodes image files to 8-bit RGB, whatever depth and colours they have."""

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from ..errors import PrunerError

_BITS_PER_SAMPLE = 258  # the tag of TIFF
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


def decode_image(path: Path, size: tuple[int, int] | None = None) -> Image.Image:
    """Decode to RGB; a JPEG much larger than (height, width) is decoded at a half, quarter...

    Grey values of more than 8 bits are scaled by the depth that the file declares; floats are
    brightness from 0 to 1, or to 255 where one exceeds 1. An alpha channel is dropped.

    Raises:
        PrunerError: The file cannot be decoded, or does not say which value is white.
    """
    try:
        with Image.open(path) as image:
            if size is not None:
                # Never below twice the target, so that the resize still decides the quality.
                image.draft("RGB", (2 * size[1], 2 * size[0]))
            if image.mode == "F" or image.mode.partition(";")[0] == "I":
                return Image.fromarray(_scale_grey(image, path)).convert("RGB")
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PrunerError(
            f"{path}: not a readable image ({error}); replace or remove it"
        ) from error


def _scale_grey(image: Image.Image, path: Path) -> np.ndarray:
    """Return grey values of more than 8 bits as uint8 [H, W]."""
    values = np.asarray(image).astype(np.float64)
    least, most = float(values.min()), float(values.max())
    if image.mode == "F":
        white = 1.0 if most <= 1 else 255.0
    else:
        white = 2.0 ** _find_depth(image) - 1
    if not (least >= 0 and most <= white):
        raise PrunerError(
            f"{path}: grey values from {least:g} to {most:g}, of which none is known to be white; "
            "convert it to 8 or 16 bits"
        )
    return np.rint(values * (255 / white)).astype(np.uint8)


def _find_depth(image: Image.Image) -> int:
    """Return the bits of a grey value: a TIFF declares them; else 16, as in PNG and PGM."""
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, 16)
    return int(bits[0] if isinstance(bits, tuple) else bits)
