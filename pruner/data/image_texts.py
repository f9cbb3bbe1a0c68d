"""Images with texts, for retrieval and captions."""

import os
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..utils import digest_json
from .collate import collate
from .dense_images import DenseImages
from .framing import Framing
from .preprocessing import Preprocessing, normalize, read_for_evaluation
from .protocol import Batch
from .sample_data import SampleData
from .samples import Sample, Samples
from .text_tables import ImageTable, find_image_tables
from .tokens import Tokenizer

_STEMS = ("captions", "metadata", "texts", "labels")
_TRAINING = Framing(scale=(0.5, 1.0), flip=0.0)  # not mirrored: texts say where things are


@dataclass(frozen=True)
class ImageTextSamples(Samples):
    """Pairs of an image and a text, and which of them belong together.

    Inputs are a dict of keyword arguments: the image float32 [n, C, H, W] and what the tokenizer
    makes of the texts; without a tokenizer they are the images alone. Targets are a dict of
    ``text``, a list of n texts, and ``image`` int64 [n], the image's number: rows of one number
    show one image.

    Attributes:
        table: Files and texts.
        preprocessing: Of images; in evaluation as in image folders, in training half of the area
            and more are shown.
        tokenizer: Texts to keyword arguments, or None.
        image_argument: The keyword argument of the image.
    """

    table: ImageTable
    preprocessing: Preprocessing
    tokenizer: Tokenizer | None = None
    image_argument: str = "pixel_values"

    def __len__(self) -> int:
        return len(self.table)

    def read(self, row: int, rng: random.Random | None) -> Sample:
        """Read an image and its text."""
        path = self.table.images[row]
        if rng is None:
            pixels = read_for_evaluation(path, self.preprocessing)
            image = normalize(pixels[None], self.preprocessing)[0]
        else:
            image, _ = DenseImages(self.preprocessing, _TRAINING).read(path, rng)
        return image, {"text": self.table.texts[row], "image": self.table.numbers[row]}

    def collate(self, samples: Sequence[Sample]) -> Batch:
        """Join samples, and make tokens of their texts together."""
        inputs: Any = torch.stack([image for image, _ in samples])
        targets = collate([target for _, target in samples])
        if self.tokenizer is not None:
            inputs = {self.image_argument: inputs, **self.tokenizer(targets["text"])}
        return inputs, targets

    def list_files(self) -> Sequence[Path]:
        """Return the images."""
        return self.table.images

    def fingerprint(self) -> str:
        """Return a digest of file names, texts and settings."""
        settings = [asdict(self.preprocessing), repr(self.tokenizer), self.image_argument]
        return digest_json([self.table.list_rows(), settings])


def open_image_texts(
    folder: str | os.PathLike[str],
    preprocessing: Preprocessing,
    *,
    tokenizer: Tokenizer | None = None,
    image_argument: str = "pixel_values",
    workers: int | None = None,
    on_error: str = "raise",
) -> SampleData[ImageTextSamples]:
    """Read the tables of a folder of images with texts; no image is decoded yet.

    ``train/captions.jsonl`` (or ``.csv``, ``.tsv``; also metadata, texts, labels) with the columns
    image (or file_name...) and text (or caption...), paths relative to the table; ``val|test/...``
    likewise. An image may have several texts, one a row.

    Args:
        folder: Holds the splits.
        preprocessing: The network's input image.
        tokenizer: Makes keyword arguments of texts, such as `FolderTokenizer`; its repr is part of
            the fingerprint.
        image_argument: The keyword argument of the image, beside those of the tokenizer.
        workers: Processes that read samples (None: the cores, at most 8).
        on_error: ``"raise"``, or ``"skip"`` samples that cannot be read or whose file is missing.

    Raises:
        PrunerError: A table is missing or has no such columns, or an image is missing.
    """
    root = Path(folder)
    tables, notes = find_image_tables(root, _STEMS, on_error == "skip")
    splits = {
        name: ImageTextSamples(table, preprocessing, tokenizer, image_argument)
        for name, table in tables.items()
    }
    return SampleData(
        str(root), splits["train"], splits.get("test"), (), tuple(notes), workers, on_error
    )
