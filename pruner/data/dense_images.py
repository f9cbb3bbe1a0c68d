"""DenseImages: how the image of a sample with a dense target is read and framed."""

import random
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .decoding import decode_image
from .framing import Frame, Framing
from .preprocessing import Preprocessing, normalize


@dataclass(frozen=True)
class DenseImages:
    """Preprocessing and framing of images whose targets move with them.

    Attributes:
        preprocessing: The input's size, mean and std, and the interpolation; its crop is not used.
        framing: What of an image is shown.
        orient: Turn images as their EXIF entry says; without, pixels are as they are stored.
    """

    preprocessing: Preprocessing
    framing: Framing = field(default_factory=Framing)
    orient: bool = False

    def read(self, path: Path, rng: random.Random | None) -> tuple[Tensor, Frame]:
        """Return a file's input, float32 [C, H, W], and where its target is to be cut."""
        return self.show(decode_image(path, orient=self.orient), rng)

    def show(self, image: Image.Image, rng: random.Random | None) -> tuple[Tensor, Frame]:
        """Return an image's input, float32 [C, H, W], and where its target is to be cut."""
        how = self.preprocessing
        frame = self.framing.place((image.height, image.width), how.size, rng)
        padding = tuple(round(255 * mean) for mean in how.mean)
        image = image.convert("RGB" if how.channels == 3 else "L")
        values: np.ndarray = frame.cut_image(image, how.resample, padding)
        return normalize(torch.from_numpy(values)[None], how)[0], frame

    def describe(self) -> dict[str, Any]:
        """Return all settings as plain data, for a fingerprint."""
        return asdict(self)
