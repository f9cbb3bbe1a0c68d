"""Images with masks of classes, for semantic segmentation."""

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..errors import PrunerError
from ..utils import digest_json
from .dense_images import DenseImages
from .file_pairs import FilePairs, find_pairs
from .framing import Framing, check_same_size
from .mask_values import read_mask
from .preprocessing import Preprocessing
from .sample_data import SampleData
from .samples import Sample, Samples

_FOLDERS = (("images", "image"), ("masks", "labels", "annotations", "mask"))
_NAMES = "classes.txt"


@dataclass(frozen=True)
class MaskSamples(Samples):
    """Pairs (float32 [C, H, W], int64 [H, W]): an image and the class of each of its pixels.

    Attributes:
        pairs: Files.
        how: How images are read and framed.
        ignore: Value of pixels that do not count, in files as in targets.
        count: Number of classes, which values are checked against; None checks nothing.
        shift: What is subtracted from the values in files (1: they begin at 1, and 0 is ignored).
    """

    pairs: FilePairs
    how: DenseImages
    ignore: int = 255
    count: int | None = None
    shift: int = 0

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, row: int, rng: random.Random | None) -> Sample:
        """Read an image and its mask, which is cut as the image is, by nearest pixels."""
        path, target = self.pairs.images[row], self.pairs.targets[row]
        mask = self._shift(read_mask(target))
        self._check_values(mask, target)
        image, frame = self.how.read(path, rng)
        check_same_size(str(path), str(target), frame.image, mask.shape[:2])
        return image, torch.from_numpy(frame.cut_mask(mask, self.ignore))

    def list_files(self) -> Sequence[Path]:
        """Return the images."""
        return self.pairs.images

    def fingerprint(self) -> str:
        """Return a digest of file names and settings."""
        settings = [self.how.describe(), self.ignore, self.count, self.shift]
        return digest_json([self.pairs.list_names(), settings])

    def _shift(self, mask: np.ndarray) -> np.ndarray:
        if not self.shift:
            return mask
        left_out = (mask == self.ignore) | (mask < self.shift)
        return np.where(left_out, self.ignore, mask - self.shift)

    def _check_values(self, mask: np.ndarray, path: Path) -> None:
        if self.count is None:
            return
        wrong = mask[(mask >= self.count) & (mask != self.ignore)]
        if wrong.size:
            raise PrunerError(
                f"{path}: value {int(wrong[0]) + self.shift}, but there are {self.count} classes "
                f"from {self.shift} to {self.count - 1 + self.shift}, and {self.ignore} is ignored"
            )


def open_masks(
    folder: str | os.PathLike[str],
    preprocessing: Preprocessing,
    *,
    framing: Framing | None = None,
    outputs: int | None = None,
    ignore: int = 255,
    shift: int = 0,
    suffix: str = "",
    orient: bool = False,
    workers: int | None = None,
    on_error: str = "raise",
) -> SampleData[MaskSamples]:
    """Find images and masks of equal names; nothing is decoded yet.

    ``train/images/*`` and ``train/masks/*`` (or labels, annotations), ``val|test/...`` likewise, or
    ``images/train/*`` and ``masks/train/*``. A file ``classes.txt`` beside them names a class a
    line, from class 0 on.

    Args:
        folder: Holds the splits.
        preprocessing: The network's input.
        framing: What of an image is shown; None: all of it, 25-100% in training.
        outputs: The network's number of classes; values in masks are checked against it.
        ignore: Value of pixels that do not count.
        shift: Subtracted from values in files: 1 where they begin at 1 and 0 is to be ignored.
        suffix: What a mask's name has behind its image's, such as ``"_mask"``.
        orient: Turn images as their EXIF entry says.
        workers: Processes that read samples (None: the cores, at most 8).
        on_error: ``"raise"`` or ``"skip"`` samples that cannot be read.

    Raises:
        PrunerError: Folders are missing, nothing makes a pair, or the number of named classes is
            not the network's.
    """
    root = Path(folder)
    pairs, notes = find_pairs(root, _FOLDERS, suffix)
    classes = read_class_names(root / _NAMES)
    if outputs is not None and classes and len(classes) != outputs:
        raise PrunerError(
            f"{root / _NAMES}: {len(classes)} classes, but the network has {outputs} outputs; give "
            "the data that it was trained on"
        )
    count = outputs or len(classes) or None
    how = DenseImages(preprocessing, framing or Framing(), orient)
    splits = {name: MaskSamples(some, how, ignore, count, shift) for name, some in pairs.items()}
    return SampleData(
        str(root), splits["train"], splits.get("test"), classes, tuple(notes), workers, on_error
    )


def read_class_names(path: Path) -> tuple[str, ...]:
    """Return the names in a text file, one a line; () where there is no file."""
    if not path.is_file():
        return ()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise PrunerError(f"{path}: not a text in UTF-8") from error
    return tuple(line.strip() for line in lines if line.strip())
