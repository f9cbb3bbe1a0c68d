"""Texts, for networks that read nothing else."""

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..utils import digest_json
from .protocol import Batch
from .sample_data import SampleData
from .samples import Sample, Samples
from .text_tables import TEXT_COLUMNS, find_tables, read_columns
from .tokens import Tokenizer

_STEMS = ("texts", "sentences", "metadata")


@dataclass(frozen=True)
class TextSamples(Samples):
    """Texts: keyword arguments that a tokenizer makes of them, and a dict of ``text``, their list.

    Attributes:
        texts: Of all rows.
        tokenizer: Texts to keyword arguments.
    """

    texts: tuple[str, ...]
    tokenizer: Tokenizer

    def __len__(self) -> int:
        return len(self.texts)

    def read(self, row: int, rng: random.Random | None) -> Sample:
        """Return a text, twice: it is changed into tokens when a batch is joined."""
        return self.texts[row], {"text": self.texts[row]}

    def collate(self, samples: Sequence[Sample]) -> Batch:
        """Join samples, and make tokens of their texts together."""
        texts, targets = super().collate(samples)
        return dict(self.tokenizer(texts)), targets

    def fingerprint(self) -> str:
        """Return a digest of texts and tokenizer."""
        return digest_json([self.texts, repr(self.tokenizer)])


def open_texts(
    folder: str | os.PathLike[str],
    tokenizer: Tokenizer,
    *,
    workers: int | None = 0,
    on_error: str = "raise",
) -> SampleData[TextSamples]:
    """Read the texts of a folder: ``train/texts.jsonl``, ``.csv`` or ``.tsv`` with a column text.

    Args:
        folder: Holds the splits; a table of texts may also be ``train.jsonl`` and ``val.jsonl``.
        tokenizer: Makes keyword arguments of texts, such as `FolderTokenizer`; its repr is part of
            the fingerprint.
        workers: Processes that make tokens.
        on_error: See `SampleData`.

    Raises:
        PrunerError: A table is missing or has no such column.
    """
    splits = {
        name: TextSamples(tuple(row[0] for row in read_columns(path, (TEXT_COLUMNS,))), tokenizer)
        for name, path in find_tables(Path(folder), _STEMS).items()
    }
    return SampleData(str(folder), splits["train"], splits.get("test"), (), (), workers, on_error)
