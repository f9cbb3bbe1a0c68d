"""Tokenizers: texts to the tensors that a network of text takes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor

from ..errors import PrunerError, first_line

Tokenizer: TypeAlias = Callable[[Sequence[str]], Mapping[str, Tensor]]
"""Texts [n] to keyword arguments of the network, each a tensor [n, ...]."""


@dataclass(frozen=True)
class FolderTokenizer:
    """A Hugging Face tokenizer that is saved in a folder; texts are cut and padded to one length.

    Attributes:
        folder: Of the tokenizer; nothing is downloaded.
        length: Tokens of every text.
    """

    folder: Path
    length: int

    def __call__(self, texts: Sequence[str]) -> Mapping[str, Tensor]:
        """Return ``input_ids``, ``attention_mask``... int64 [n, length]."""
        return dict(
            self._tokenizer(
                list(texts), padding="max_length", truncation=True, max_length=self.length,
                return_tensors="pt",
            )
        )  # fmt: skip

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            from transformers import AutoTokenizer
        except ImportError as error:
            raise PrunerError('tokenizers need transformers: pip install "msprune[zoo]"') from error
        if not self.folder.is_dir():
            raise PrunerError(f"{self.folder}: no folder of a tokenizer; nothing is downloaded")
        try:
            return AutoTokenizer.from_pretrained(str(self.folder), local_files_only=True)
        except Exception as error:
            raise PrunerError(
                f"{self.folder}: no readable tokenizer: {first_line(error)}"
            ) from error
