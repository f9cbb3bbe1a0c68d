"""Segmentation: a class for every pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import StrictInt
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate

from ..data import Framing, TaskData, open_masks
from ..errors import PrunerError
from ..utils import entry, settings_class
from .base import Task
from .class_scores import extract_scores
from .data_settings import DenseSettings
from .divergence import compare_scores, describe_shapes
from .metric import Metric, MetricKind
from .records import to_record
from .request import TaskRequest
from .total import Total

MEAN_IOU = MetricKind("mean IoU")


@settings_class
class SegmentationSettings(DenseSettings):
    """What a segmentation task may be told."""

    ignore_index: Annotated[StrictInt, entry("the class of pixels that do not count")] = 255
    shift: Annotated[StrictInt, entry("subtracted from the values in mask files")] = 0


class Segmentation(Task):
    """Classes int64 [n, H, W] of the pixels of class scores [n, classes, H, W].

    The scores are the network's output, or the entry ``out`` or ``logits`` of it; scores of another
    size than the masks are resized to theirs. An entry ``aux`` (torchvision's second classifier, in
    training) is a second loss, of weight 0.5.
    """

    name = "segmentation"
    weights: Mapping[str, float] = {"aux": 0.5}

    def __init__(self, data: TaskData | None = None, ignore_index: int = 255) -> None:
        """Take batches of (inputs, masks), and the class of pixels that do not count."""
        self.data, self.ignore_index = data, ignore_index

    @classmethod
    def open(cls, request: TaskRequest) -> Segmentation:
        """Open class-mask pairs for a network of images (see `pruner.data.open_masks`)."""
        settings = request.read_settings(SegmentationSettings)
        task = cls(ignore_index=settings.ignore_index)
        scores = task.read(request.run())["out"]
        if scores.ndim != 4:
            raise PrunerError(
                f"{request.network} is no segmenter: its scores are {describe_shapes(scores)}, "
                "expected [n, classes, H, W]"
            )

        preprocessing = request.make_preprocessing(settings.mean, settings.std)

        def open_folder(path: str) -> TaskData:
            return open_masks(
                path, preprocessing, outputs=scores.shape[1],
                framing=Framing(settings.fit), ignore=settings.ignore_index, shift=settings.shift,
                suffix=settings.suffix, workers=settings.workers, on_error=settings.on_error,
            )  # fmt: skip

        return task.with_data(
            request.open_data(
                open_folder, preprocessing, framing=Framing(settings.fit),
                ignore=settings.ignore_index, **settings.saved,
            )
        )  # fmt: skip

    def settings(self) -> Mapping[str, Any]:
        """Return the class that does not count."""
        return {"ignore_index": self.ignore_index}

    def read(self, results: Any) -> dict[str, Tensor]:
        """Take the class scores ``out``, and ``aux`` where there are such."""
        results = to_record(results)
        if isinstance(results, Mapping) and isinstance(results.get("out"), Tensor):
            return {key: results[key] for key in ("out", "aux") if key in results}
        return {"out": extract_scores(results)}

    def loss(self, outputs: Any, targets: Any) -> dict[str, Tensor]:
        """Return the mean cross-entropies over the pixels that count, in nats."""
        return {key: self._total(scores, targets).mean for key, scores in outputs.items()}

    def total_loss(self, outputs: Any, targets: Any) -> Total:
        """Return the sum over the pixels that count; of the main scores alone."""
        return self._total(outputs["out"], targets)

    def _total(self, scores: Tensor, masks: Tensor) -> Total:
        summed = cross_entropy(
            fit_scores(scores, masks), masks, ignore_index=self.ignore_index, reduction="sum"
        )
        return Total(summed, max(int((masks != self.ignore_index).sum()), 1))

    def divergence(self, outputs: Any, dense: Any, temperature: float = 1.0) -> Total:
        """Return KL(dense || outputs) of the pixels' main scores."""
        return compare_scores(outputs["out"], dense["out"], temperature, axis=1)

    def metric(self) -> Metric:
        """Return the mean over classes of intersection over union."""
        return MeanIoU(self.ignore_index)

    def check(self, outputs: Any, targets: Any) -> None:
        """Refuse anything but scores [n, classes, H, W] and masks [n, H, W] of these classes."""
        scores = outputs["out"]
        shape = describe_shapes(scores)
        if scores.ndim != 4:
            raise PrunerError(f"expected scores [n, classes, H, W], got {shape} from the network")
        whole = isinstance(targets, Tensor) and not targets.is_floating_point()
        if not whole or targets.ndim != 3 or len(targets) != len(scores):
            raise PrunerError(
                f"masks {describe_shapes(targets)} do not fit scores {shape}: expected whole "
                f"numbers [{len(scores)}, H, W]"
            )
        counted = targets[targets != self.ignore_index]
        if counted.numel() and (counted.min() < 0 or counted.max() >= scores.shape[1]):
            raise PrunerError(
                f"masks hold classes from {int(counted.min())} to {int(counted.max())}, but the "
                f"network tells {scores.shape[1]} apart: expected 0 to {scores.shape[1] - 1}, and "
                f"{self.ignore_index} for pixels that do not count (task entry ignore_index)"
            )


def fit_scores(scores: Tensor, masks: Tensor) -> Tensor:
    """Resize class scores [n, classes, h, w] to the size of masks [n, H, W], bilinearly."""
    if scores.shape[-2:] == masks.shape[-2:]:
        return scores
    return interpolate(scores, masks.shape[-2:], mode="bilinear", align_corners=False)


class MeanIoU(Metric):
    """The mean, over the classes that occur, of intersection over union over all pixels."""

    kind = MEAN_IOU

    def __init__(self, ignore_index: int) -> None:
        """Take the class of pixels that do not count."""
        self.ignore_index = ignore_index
        self.counts: Tensor | None = None  # int64 [true class, class found]

    def update(self, outputs: Any, targets: Any) -> None:
        """Count the pixels of a batch by their true class and the one found."""
        scores = fit_scores(outputs["out"], targets)
        classes, counted = scores.shape[1], targets != self.ignore_index
        pairs = targets[counted] * classes + scores.argmax(1)[counted]
        self.merge(torch.bincount(pairs, minlength=classes**2).reshape(classes, classes))

    def compute(self) -> float:
        """Average over the classes that are somewhere in the masks or the answers."""
        if self.counts is None or not self.counts.sum():
            raise PrunerError(f"metric {self.kind.name}: no pixel counts, so it says nothing")
        both = self.counts.diagonal()
        either = self.counts.sum(0) + self.counts.sum(1) - both
        return float((both[either > 0].double() / either[either > 0]).mean())

    def state(self) -> Any:
        """Return the counts."""
        return self.counts

    def merge(self, state: Any) -> None:
        """Add other counts."""
        if state is not None:
            self.counts = state if self.counts is None else self.counts + state
