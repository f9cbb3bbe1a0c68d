"""Reads masks: the number of a class for every pixel, of image files of any mode."""

from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import PrunerError
from .decoding import open_pixels


def read_mask(path: Path) -> np.ndarray:
    """Read the classes of pixels, int64 [h, w]: palette indices or grey values as they stand.

    Raises:
        PrunerError: The file cannot be decoded, or has colours, which are no numbers.
    """
    with open_pixels(path) as image:
        return find_classes(image, str(path))


def find_classes(image: Image.Image, name: str) -> np.ndarray:
    """Return the classes of a decoded mask's pixels, int64 [h, w]; see `read_mask`."""
    values = np.asarray(image)
    if values.ndim == 3:
        # Grey values may be stored as three equal channels; alpha says nothing of classes.
        colours = values[..., : 3 if values.shape[2] > 2 else 1]
        if image.mode == "CMYK" or (colours != colours[..., :1]).any():
            raise PrunerError(
                f"{name}: a mask of colours ({image.mode}); expected palette indices or grey values"
                " that are numbers of classes"
            )
        values = colours[..., 0]
    if values.dtype.kind == "f" and (values != np.rint(values)).any():
        raise PrunerError(f"{name}: a mask of fractions; expected whole numbers of classes")
    return values.astype(np.int64)
