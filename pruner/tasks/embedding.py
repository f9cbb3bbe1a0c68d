"""Embedding: vectors of texts or images, which are judged by each other's similarity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import StrictInt, StrictStr
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..data import TaskData, open_texts, open_unlabelled
from ..errors import PrunerError
from ..graph import find_device
from ..utils import entry, is_object_name, settings_class
from .base import Task, to_call
from .data_settings import ImageSettings
from .divergence import compare_values, describe_shapes
from .metric import CollectedMetric, Metric, MetricKind
from .pick import pick_output
from .records import to_record
from .request import TaskRequest
from .text_inputs import find_texts, open_tokenizer
from .total import Total

RANKS = MetricKind("rank correlation", "")
MOST = 2000
"""Samples whose similarities are ranked: the pairs of more would not fit."""
_VECTORS = ("sentence_embedding", "embeddings", "embedding", "image_embeds", "text_embeds")
_TOKENS = "last_hidden_state"
_MASK = "attention_mask"


@settings_class
class EmbeddingSettings(ImageSettings):
    """What a task of embeddings may be told."""

    tokenizer: Annotated[
        StrictStr | None,
        entry("folder of a tokenizer, or package.module:function (default: the model's folder)"),
    ] = None
    output: Annotated[
        StrictStr | StrictInt | None,
        entry("which of the network's outputs, by name or number (default: its embedding, else "
              "last_hidden_state)"),
    ] = None  # fmt: skip
    pool: Annotated[
        Literal["mean", "first"],
        entry("of outputs for every token: mean over those that count, or the first"),
    ] = "mean"


class Embedding(Task):
    """Embeddings [n, width], without labels: they are to be as alike as the dense network's.

    Of outputs [n, tokens, width] the mean over the tokens is taken that the argument
    ``attention_mask`` says to count, or the first.
    """

    name = "embedding"

    def __init__(
        self,
        data: TaskData | None = None,
        *,
        output: str | int | None = None,
        pool: Literal["mean", "first"] = "mean",
    ) -> None:
        """Take batches of inputs, and what `EmbeddingSettings` says of the rest."""
        self.data, self.output, self.pool = data, output, pool

    @classmethod
    def open(cls, request: TaskRequest) -> Embedding:
        """Open texts, or images without labels, as the network takes them.

        See `pruner.data.open_texts` and `pruner.data.open_unlabelled`.
        """
        settings = request.read_settings(EmbeddingSettings)
        task = cls(output=settings.output, pool=settings.pool)
        task.take_vectors(request.run(), None)  # refuses a network of another kind
        own = is_object_name(request.require_data())
        if find_texts(request) is not None:
            tokenizer = None if own else open_tokenizer(request, settings.tokenizer)

            def open_folder(path: str) -> TaskData:
                assert tokenizer is not None
                return open_texts(
                    path, tokenizer, workers=settings.workers or 0, on_error=settings.on_error
                )

            return task.with_data(
                request.open_data(open_folder, tokenizer=tokenizer, **settings.saved)
            )
        preprocessing = request.make_preprocessing(settings.mean, settings.std)

        def open_images(path: str) -> TaskData:
            return open_unlabelled(
                path, preprocessing, workers=settings.workers, on_error=settings.on_error
            )

        return task.with_data(request.open_data(open_images, preprocessing, **settings.saved))

    def settings(self) -> Mapping[str, Any]:
        """Return which output is pooled how."""
        return {"output": self.output, "pool": self.pool}

    @property
    def calls_once(self) -> bool:
        """True: pooling is done on what one call returns."""
        return True

    def forward(self, module: nn.Module, inputs: Any, targets: Any = None) -> Tensor:
        """Call a network on a batch and return the embeddings [n, width]."""
        args, kwargs = to_call(inputs, find_device(module))
        return self.take_vectors(module(*args, **kwargs), kwargs.get(_MASK))

    def take_vectors(self, results: Any, mask: Tensor | None) -> Tensor:
        """Take the embeddings out of what a network returns; mask [n, tokens]: which count."""
        found = results = to_record(results)
        if self.output is not None:
            found = pick_output(results, self.output)
        elif isinstance(results, Mapping):
            name = next((n for n in (*_VECTORS, _TOKENS) if n in results), None)
            found = results if name is None else results[name]
        elif isinstance(results, list | tuple) and len(results) == 1:
            found = results[0]
        if not isinstance(found, Tensor) or found.ndim not in (2, 3):
            raise PrunerError(
                "expected embeddings [n, width], or [n, tokens, width], got "
                f"{describe_shapes(results)} from the network; the task's setting output says "
                "which of several, by name or number"
            )
        if found.ndim == 2:
            return found
        if self.pool == "first":
            return found[:, 0]
        if mask is None:
            return found.mean(1)
        counts = mask[..., None].to(found.dtype)
        return (found * counts).sum(1) / counts.sum(1).clamp_min(1)

    def divergence(self, outputs: Any, dense: Any, temperature: float = 1.0) -> Total:
        """Return the squared distances of embeddings of length 1: twice one minus the cosine."""
        return compare_values(normalize(outputs, dim=-1), normalize(dense, dim=-1))

    def metric(self) -> Metric:
        """Return Spearman's correlation of all pairs' similarities with the dense network's."""
        return CollectedMetric(RANKS, _keep, correlate_ranks, needs_dense=True)


def _keep(outputs: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
    return normalize(outputs.float(), dim=1), normalize(dense.float(), dim=1)


def correlate_ranks(outputs: Tensor, dense: Tensor) -> float:
    """Return Spearman's correlation of the cosines of all pairs of rows, of `MOST` rows at most.

    Args:
        outputs: Embeddings of length 1, [n, width].
        dense: The dense network's of the same samples.

    Raises:
        PrunerError: There are less than three samples, or all similarities are the same.
    """
    from scipy.stats import spearmanr

    if len(outputs) > MOST:
        rows = torch.linspace(0, len(outputs) - 1, MOST).round().long()
        outputs, dense = outputs[rows], dense[rows]
    if len(outputs) < 3:
        raise PrunerError(
            f"metric {RANKS.name}: {len(outputs)} test samples have no pairs to rank; give three "
            "or more"
        )
    upper = np.triu_indices(len(outputs), 1)
    ours, theirs = ((x.double() @ x.double().T).numpy()[upper] for x in (outputs, dense))
    if np.ptp(ours) == 0 or np.ptp(theirs) == 0:
        raise PrunerError(f"metric {RANKS.name}: all embeddings are alike, so they have no ranks")
    return float(spearmanr(ours, theirs)[0])
