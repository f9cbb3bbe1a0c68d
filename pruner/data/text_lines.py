"""Images of text lines with what they say, for recognition."""

import os
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import PrunerError
from ..utils import digest_json
from .decoding import decode_image
from .preprocessing import Preprocessing, normalize
from .sample_data import SampleData
from .samples import Sample, Samples
from .text_tables import ImageTable, find_image_tables

_STEMS = ("labels", "gt", "metadata", "texts", "captions")
_ALPHABET = "alphabet.txt"
_STRETCH = (0.9, 1.1)  # of a training line's width


@dataclass(frozen=True)
class LineSamples(Samples):
    """Pairs (float32 [C, H, W], dict): a line of text, and its characters.

    A line is resized to the input's height, its proportions kept up to the input's width; to its
    right the last column is repeated. The dict of a line has ``text`` and ``tokens`` int64 [k]:
    characters by their number in the alphabet, from 1 on; 0 is CTC's blank.

    Attributes:
        table: Files and texts.
        preprocessing: The input's size, mean and std; one number each reads grey lines.
        alphabet: Characters, in the order of the network's outputs behind the blank.
        blank_last: The blank is the last output, and characters are numbered from 0 on.
    """

    table: ImageTable
    preprocessing: Preprocessing
    alphabet: str
    blank_last: bool = False
    ragged = True

    def __len__(self) -> int:
        return len(self.table)

    @property
    def blank(self) -> int:
        """The number of CTC's blank."""
        return len(self.alphabet) if self.blank_last else 0

    def read(self, row: int, rng: random.Random | None) -> Sample:
        """Read a line; in training its width changes by up to a tenth."""
        stretch = 1.0 if rng is None else rng.uniform(*_STRETCH)
        image = fit_line(decode_image(self.table.images[row]), self.preprocessing, stretch)
        text = self.table.texts[row]
        return image, {"text": text, "tokens": self.encode(text)}

    def encode(self, text: str) -> Tensor:
        """Return the numbers of a text's characters, int64 [k]; PrunerError for a foreign one."""
        first = 0 if self.blank_last else 1
        numbers = [self.alphabet.find(character) for character in text]
        if -1 in numbers:
            foreign = text[numbers.index(-1)]
            raise PrunerError(f"text {text!r}: {foreign!r} is not in the alphabet")
        return torch.tensor(numbers, dtype=torch.int64) + first

    def list_files(self) -> Sequence[Path]:
        """Return the images."""
        return self.table.images

    def fingerprint(self) -> str:
        """Return a digest of file names, texts and settings."""
        settings = [asdict(self.preprocessing), self.alphabet, self.blank_last]
        return digest_json([self.table.list_rows(), settings])


def fit_line(image: Image.Image, preprocessing: Preprocessing, stretch: float = 1.0) -> Tensor:
    """Return a line of text as the network's input, float32 [C, H, W]; see `LineSamples`."""
    height, width = preprocessing.size
    wide = min(width, max(1, round(image.width * height / image.height * stretch)))
    image = image.convert("RGB" if preprocessing.channels == 3 else "L")
    values = np.asarray(image.resize((wide, height), preprocessing.resample))
    values = values[..., None] if values.ndim == 2 else values
    values = np.pad(values, ((0, 0), (0, width - wide), (0, 0)), "edge")
    pixels = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))
    return normalize(pixels[None], preprocessing)[0]


def open_text_lines(
    folder: str | os.PathLike[str],
    preprocessing: Preprocessing,
    *,
    alphabet: str | None = None,
    blank_last: bool = False,
    outputs: int | None = None,
    workers: int | None = None,
    on_error: str = "raise",
) -> SampleData[LineSamples]:
    """Read the tables of a folder of text lines; no image is decoded yet.

    ``train/labels.tsv`` (or ``.csv``, ``.jsonl``; also gt, metadata) with the columns image and
    text, or without a header in that order; ``val|test/...`` likewise.

    Args:
        folder: Holds the splits.
        preprocessing: The network's input; a mean of one number reads grey lines.
        alphabet: Characters, in the order of the network's outputs; None: those in the folder's
            ``alphabet.txt`` (line breaks do not count), or else those of the training texts,
            sorted, which only fits a network that was trained so.
        blank_last: The network's last output is CTC's blank, not its first.
        outputs: The network's number of outputs, which is one more than characters.
        workers: Processes that read samples (None: the cores, at most 8).
        on_error: ``"raise"``, or ``"skip"`` samples that cannot be read, whose file is missing or
            which have characters that the alphabet has not.

    Raises:
        PrunerError: A table is missing or has no such columns, an image is missing, the alphabet
            lacks a character or is not of the network's size.
    """
    root = Path(folder)
    skip = on_error == "skip"
    tables, notes = find_image_tables(root, _STEMS, skip)
    if alphabet is None:
        alphabet = read_alphabet(root / _ALPHABET)
    if alphabet is None:
        alphabet = "".join(sorted({*"".join(tables["train"].texts)}))
        notes.append(
            f"no {_ALPHABET}: the alphabet is the training texts' {len(alphabet)} characters"
        )
    check_alphabet(alphabet, outputs, root)
    tables = {name: _drop_foreign(one, alphabet, skip, notes) for name, one in tables.items()}
    splits = {
        name: LineSamples(table, preprocessing, alphabet, blank_last)
        for name, table in tables.items()
    }
    return SampleData(
        str(root), splits["train"], splits.get("test"), tuple(alphabet), tuple(notes), workers,
        on_error,
    )  # fmt: skip


def read_alphabet(path: Path) -> str | None:
    """Return the characters of a text file, without line breaks; None where there is no file."""
    if not path.is_file():
        return None
    try:
        return "".join(path.read_text(encoding="utf-8-sig").splitlines())
    except UnicodeDecodeError as error:
        raise PrunerError(f"{path}: not a text in UTF-8") from error


def check_alphabet(alphabet: str, outputs: int | None, root: Path) -> None:
    """PrunerError for a character that stands twice, and for another number than the network's."""
    twice = [character for character, count in Counter(alphabet).items() if count > 1]
    if twice:
        raise PrunerError(f"{root}: {twice[0]!r} stands twice in the alphabet")
    if outputs is not None and outputs != len(alphabet) + 1:
        raise PrunerError(
            f"{root}: an alphabet of {len(alphabet)} characters and the blank, but the network has "
            f"{outputs} outputs; give the alphabet that it was trained on, as {_ALPHABET}"
        )


def _drop_foreign(table: ImageTable, alphabet: str, skip: bool, notes: list[str]) -> ImageTable:
    """Return a table without rows whose characters are not all known; PrunerError unless skip."""
    known = {*alphabet}
    foreign = {k: {*text} - known for k, text in enumerate(table.texts) if {*text} - known}
    if not foreign:
        return table
    first = next(iter(foreign))
    text = (
        f"{len(foreign)} texts of {table.path} have characters that are not in the alphabet "
        f"(first {''.join(sorted(foreign[first]))!r} in {table.texts[first]!r})"
    )
    keep = [k for k in range(len(table)) if k not in foreign]
    if not skip or not keep:
        raise PrunerError(text)
    notes.append(f"{text} and are left out")
    return replace(
        table,
        images=tuple(table.images[k] for k in keep),
        texts=tuple(table.texts[k] for k in keep),
    )
