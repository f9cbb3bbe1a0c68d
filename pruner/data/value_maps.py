"""Images with maps of values: depth and other dense regression, restored and enlarged images."""

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..errors import PrunerError
from ..utils import digest_json, wrong_value
from .decoding import find_depth, open_pixels
from .dense_images import DenseImages
from .file_pairs import FilePairs, find_pairs
from .framing import Framing, check_same_size
from .preprocessing import Preprocessing
from .sample_data import SampleData
from .samples import Sample, Samples

_FOLDERS = (
    ("images", "image", "inputs", "rgb"),
    ("targets", "target", "maps", "depth", "depths", "labels"),
)
_INTERPOLATION = ("bilinear", "nearest")
_ARRAYS = frozenset({".npy"})


@dataclass(frozen=True)
class MapSamples(Samples):
    """Pairs (float32 [C, H, W], dict): an image and a map of values for its pixels.

    The dict has ``map`` float32 [K, upscale * H, upscale * W], 0 where nothing is known, and
    ``valid`` bool [1, ...] of the same size: where something is.

    Attributes:
        pairs: Files.
        how: How images are read and framed.
        scale: Values in files times this are the map's; None: integers of 8 and 16 bits become 0 to
            1 by the range of their file, others stay.
        invalid: Value in files of pixels of which nothing is known; NaN and infinity always are.
        interpolation: ``"bilinear"`` over known values, or ``"nearest"``.
        upscale: Pixels of a map along each side of an image's pixel.
    """

    pairs: FilePairs
    how: DenseImages
    scale: float | None = None
    invalid: float | None = None
    interpolation: str = "bilinear"
    upscale: int = 1

    def __post_init__(self) -> None:
        if self.interpolation not in _INTERPOLATION:
            raise wrong_value("interpolation", " or ".join(_INTERPOLATION), self.interpolation)
        if self.upscale < 1:
            raise wrong_value("upscale", "a whole number from 1 on", self.upscale)

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, row: int, rng: random.Random | None) -> Sample:
        """Read an image and its map, which is cut as the image is."""
        path, target = self.pairs.images[row], self.pairs.targets[row]
        image, frame = self.how.read(path, rng)
        frame = frame.scale(self.upscale)
        raw, white = read_map(target, frame.image)
        check_same_size(
            f"{path}{f' times {self.upscale}' if self.upscale > 1 else ''}",
            str(target), frame.image, (raw.shape[1], raw.shape[2]),
        )  # fmt: skip
        known = np.isfinite(raw).all(0)
        if self.invalid is not None:
            known &= (raw != self.invalid).all(0)
        values = raw * np.float32(1 / white if self.scale is None else self.scale)
        cut, valid = frame.cut_map(values, known, self.interpolation == "nearest")
        return image, {"map": torch.from_numpy(cut), "valid": torch.from_numpy(valid)[None]}

    def list_files(self) -> Sequence[Path]:
        """Return the images."""
        return self.pairs.images

    def fingerprint(self) -> str:
        """Return a digest of file names and settings."""
        settings = [self.scale, self.invalid, self.interpolation, self.upscale]
        return digest_json([self.pairs.list_names(), self.how.describe(), settings])


def read_map(path: Path, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """Read values as they stand, float32 [K, h, w], and the greatest that its integers can be.

    An ``.npy`` array is [h, w], [h, w, K] or [K, h, w]: the size tells which. Of an image a palette
    and CMYK become RGB, and alpha is dropped.

    Args:
        path: The file.
        size: Expected height and width.

    Raises:
        PrunerError: The file cannot be decoded.
    """
    if path.suffix.lower() in _ARRAYS:
        return _read_array(path, size)
    with open_pixels(path) as image:
        if image.mode in ("P", "PA", "CMYK", "RGBA", "RGBX", "YCbCr", "HSV", "LAB"):
            values = np.asarray(image.convert("RGB"))
        else:
            values = np.asarray(image.convert("L") if image.mode in ("LA", "La") else image)
        deep = find_depth(image)
        white = 1.0 if values.dtype.kind in "bf" or deep > 16 else 2.0**deep - 1
    values = values.astype(np.float32)
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1), white


def _read_array(path: Path, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise PrunerError(
            f"{path}: not a readable array ({error}); replace or remove it"
        ) from error
    if array.dtype.kind not in "biuf" or array.ndim not in (2, 3):
        raise PrunerError(
            f"{path}: expected numbers [h, w], [h, w, channels] or [channels, h, w], got "
            f"{array.dtype} {list(array.shape)}"
        )
    whites = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}
    white = whites.get(array.dtype, 1.0)
    values = array.astype(np.float32)
    if values.ndim == 2:
        return values[None], white
    last = values.shape[:2] == size and values.shape[1:] != size
    return values.transpose(2, 0, 1) if last else values, white


def open_maps(
    folder: str | os.PathLike[str],
    preprocessing: Preprocessing,
    *,
    framing: Framing | None = None,
    scale: float | None = None,
    invalid: float | None = None,
    interpolation: str = "bilinear",
    upscale: int = 1,
    suffix: str = "",
    orient: bool = False,
    workers: int | None = None,
    on_error: str = "raise",
) -> SampleData[MapSamples]:
    """Find images and maps of equal names; nothing is decoded yet.

    ``train/images/*`` (or inputs, rgb) and ``train/targets/*`` (or maps, depth, labels),
    ``val|test/...`` likewise, or ``images/train/*`` and ``targets/train/*``. Maps are images of 8
    or 16 bits, float TIFF or ``.npy``.

    Args:
        folder: Holds the splits.
        preprocessing: The network's input.
        framing: What of an image is shown; ``Framing("crop")`` resizes nothing, for restoration.
        scale: See `MapSamples`; 0.001 makes metres of millimetres.
        invalid: See `MapSamples`; 0 in most files of depth.
        interpolation: See `MapSamples`.
        upscale: See `MapSamples`; 4 for a network that enlarges an image four times.
        suffix: What a map's name has behind its image's, such as ``"_depth"``.
        orient: Turn images as their EXIF entry says.
        workers: Processes that read samples (None: the cores, at most 8).
        on_error: ``"raise"`` or ``"skip"`` samples that cannot be read.

    Raises:
        PrunerError: Folders are missing, or nothing makes a pair.
    """
    root = Path(folder)
    pairs, notes = find_pairs(root, _FOLDERS, suffix, _ARRAYS)
    how = DenseImages(preprocessing, framing or Framing(), orient)
    splits = {
        name: MapSamples(some, how, scale, invalid, interpolation, upscale)
        for name, some in pairs.items()
    }
    return SampleData(
        str(root), splits["train"], splits.get("test"), (), tuple(notes), workers, on_error
    )
