"""Retrieval: which text belongs to which image, by the embeddings of two towers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import StrictInt, StrictStr
from torch import Tensor
from torch.nn.functional import normalize

from ..data import TaskData, open_image_texts
from ..errors import PrunerError
from ..utils import NUMBER, entry, is_object_name, settings_class, wrong_value
from .base import Task
from .data_settings import ImageSettings
from .divergence import compare_values, describe_shapes
from .embedding import Embedding
from .metric import CollectedMetric, Metric, MetricKind
from .records import to_record
from .request import TaskRequest
from .text_inputs import find_image_argument, find_texts, open_tokenizer
from .total import Total

_NAMES = (("image_embeds", "text_embeds"), ("image", "text"), ("image_features", "text_features"))
_SCORES = "logits_per_image"
_ROWS = 1024
DIRECTIONS = ("both", "text_to_image", "image_to_text")


@settings_class
class RetrievalSettings(ImageSettings):
    """What a retrieval task may be told."""

    tokenizer: Annotated[
        StrictStr | None,
        entry("folder of a tokenizer, or package.module:function (default: the model's folder)"),
    ] = None
    k: Annotated[StrictInt, entry("how many of the nearest count", ge=1)] = 1
    direction: Annotated[
        Literal["both", "text_to_image", "image_to_text"],
        entry("what is looked for by what: the mean of both, text_to_image or image_to_text"),
    ] = "both"
    temperature: Annotated[
        float, entry("of the contrastive loss, where the network has none of its own", gt=0), NUMBER
    ] = 0.07


class Retrieval(Task):
    """Embeddings of images and texts [n, width]; pairs are rows of one image's number.

    The network returns a record of ``image_embeds`` and ``text_embeds`` (as transformers' CLIP
    does; its own scaled scores ``logits_per_image`` are then the loss's), one of ``image`` and
    ``text``, or two tensors in that order. Targets are int64 [n], the image's number in the whole
    data set, or a dict with them as ``image``.
    """

    name = "retrieval"

    def __init__(
        self,
        data: TaskData | None = None,
        *,
        k: int = 1,
        direction: str = "both",
        temperature: float = 0.07,
    ) -> None:
        """Take batches of (inputs, numbers), and what `RetrievalSettings` says of the rest."""
        if direction not in DIRECTIONS:
            raise wrong_value("direction", f"one of {', '.join(DIRECTIONS)}", direction)
        self.data, self.k, self.direction, self.temperature = data, k, direction, temperature

    @classmethod
    def open(cls, request: TaskRequest) -> Task:
        """Open images with texts (see `pruner.data.open_image_texts`).

        A network that takes texts and no images is one of embeddings: it is opened as such.
        """
        image = find_image_argument(request)
        if image is None and find_texts(request) is not None:
            return Embedding.open(request)
        settings = request.read_settings(RetrievalSettings)
        task = cls(k=settings.k, direction=settings.direction, temperature=settings.temperature)
        task.read(request.run())  # refuses a network of another kind
        preprocessing = request.make_preprocessing(settings.mean, settings.std)

        tokenizer = None
        if not is_object_name(request.require_data()):
            tokenizer = open_tokenizer(request, settings.tokenizer)

        def open_folder(path: str) -> TaskData:
            return open_image_texts(
                path, preprocessing, tokenizer=tokenizer, image_argument=image or "",
                workers=settings.workers, on_error=settings.on_error,
            )  # fmt: skip

        return task.with_data(
            request.open_data(
                open_folder, preprocessing, tokenizer=tokenizer, image_argument=image or "",
                **settings.saved,
            )
        )  # fmt: skip

    def settings(self) -> Mapping[str, Any]:
        """Return how many count, in which direction, and the loss's temperature."""
        return {"k": self.k, "direction": self.direction, "temperature": self.temperature}

    def read(self, results: Any) -> dict[str, Tensor]:
        """Take the embeddings of images and texts, and the network's own scores if it has some."""
        results = to_record(results)
        pair: tuple[Any, ...] = ()
        if isinstance(results, Mapping):
            names = next((n for n in _NAMES if {*n} <= {*results}), ())
            pair = tuple(results[name] for name in names)
        elif isinstance(results, list | tuple) and len(results) == 2:
            pair = tuple(results)
        if len(pair) != 2 or not all(isinstance(x, Tensor) and x.ndim == 2 for x in pair):
            raise PrunerError(
                "expected embeddings [n, width] of images and texts, as a record of image_embeds "
                f"and text_embeds or a pair, got {describe_shapes(results)} from the network"
            )
        found = {"image": pair[0], "text": pair[1]}
        if isinstance(results, Mapping) and isinstance(results.get(_SCORES), Tensor):
            found["scores"] = results[_SCORES]
        return found

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """Return the mean cross-entropy of a text's image among the batch's, and the other way.

        Pairs of one image's number share their probability (Khosla et al. 2020 for several).
        """
        scores = outputs.get("scores")
        if scores is None:
            image, text = (normalize(outputs[name], dim=1) for name in ("image", "text"))
            scores = image @ text.T / self.temperature
        numbers = find_numbers(targets).to(scores.device)
        same = (numbers[:, None] == numbers).to(scores.dtype)
        wanted = same / same.sum(1, keepdim=True)
        parts = [-(wanted * x.log_softmax(1)).sum(1).mean() for x in (scores, scores.T)]
        return (parts[0] + parts[1]) / 2

    def divergence(self, outputs: Any, dense: Any, temperature: float = 1.0) -> Total:
        """Return the squared distances of both towers' embeddings of length 1, a mean over rows."""
        ours, theirs = (
            {name: normalize(side[name], dim=-1) for name in ("image", "text")}
            for side in (outputs, dense)
        )
        return compare_values(ours, theirs)

    def metric(self) -> Metric:
        """Return the recall among the k nearest of all samples together."""
        kind = MetricKind(f"recall@{self.k}")
        return CollectedMetric(kind, _keep, self._measure)

    def _measure(self, image: Tensor, text: Tensor, numbers: Tensor) -> float:
        return measure_recall(image, text, numbers, self.k, self.direction)

    def check(self, outputs: Any, targets: Any) -> None:
        """Refuse embeddings of other widths, and targets that are no numbers of images."""
        shapes = describe_shapes({name: outputs[name] for name in ("image", "text")})
        if outputs["image"].shape != outputs["text"].shape:
            raise PrunerError(
                f"embeddings {shapes}: expected as many images as texts, and one width"
            )
        numbers = find_numbers(targets)
        if numbers.shape != outputs["image"].shape[:1] or numbers.is_floating_point():
            raise PrunerError(
                f"numbers of images {describe_shapes(numbers)} do not fit embeddings {shapes}: "
                f"expected whole numbers [{len(outputs['image'])}]"
            )


def find_numbers(targets: Any) -> Tensor:
    """Return the images' numbers of a batch's targets, int64 [n]; PrunerError without any."""
    found = targets.get("image") if isinstance(targets, Mapping) else targets
    if not isinstance(found, Tensor):
        raise PrunerError(
            f"targets {describe_shapes(targets)} say no numbers of images: expected whole numbers "
            "[n], the same where texts belong to the same image, or a dict with them as image"
        )
    return found


def _keep(outputs: Any, targets: Any) -> tuple[Tensor, ...]:
    embeddings = (normalize(outputs[name].float(), dim=1) for name in ("image", "text"))
    return *embeddings, find_numbers(targets)


def measure_recall(
    image: Tensor, text: Tensor, numbers: Tensor, k: int, direction: str = "both"
) -> float:
    """Return the share of queries with one of their own among the k nearest.

    An image that stands in several rows is looked for once. What is as near as one's own counts as
    nearer: embeddings that are all alike recall nothing.

    Args:
        image: Of length 1, float [n, width].
        text: Of the same rows.
        numbers: Of the rows' images, int64 [n].
        k: How many count.
        direction: ``"text_to_image"``, ``"image_to_text"``, or ``"both"``: the mean.
    """
    unique, owner = numbers.unique(return_inverse=True)
    rows = torch.empty(len(unique), dtype=torch.int64)
    rows[owner.flip(0)] = torch.arange(len(numbers)).flip(0)  # the first row of each
    gallery = image[rows]
    columns, near = torch.arange(len(unique)), []
    best = torch.full((len(unique),), -torch.inf)
    pieces = list(zip(text.split(_ROWS), owner.split(_ROWS)))
    for part, own in pieces:
        scores = part @ gallery.T
        mine = scores.gather(1, own[:, None])
        near.append((scores >= mine).sum(1) <= k)  # one's own among them
        best.scatter_reduce_(0, own, mine[:, 0], "amax")
    others = torch.zeros(len(unique), dtype=torch.int64)
    for part, own in pieces:
        others += ((part @ gallery.T >= best) & (own[:, None] != columns)).sum(0)
    found = {
        "text_to_image": torch.cat(near).double().mean(),
        "image_to_text": (others < k).double().mean(),
    }
    chosen = list(found.values()) if direction == "both" else [found[direction]]
    return float(torch.stack(chosen).mean())
