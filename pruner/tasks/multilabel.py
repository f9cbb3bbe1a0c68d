"""Multilabel: any number of classes for every image, each there or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import StrictStr
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ..data import TaskData, open_label_sets
from ..errors import PrunerError
from ..utils import entry, settings_class, wrong_value
from .base import Task
from .class_scores import extract_scores
from .data_settings import ImageSettings
from .divergence import check_alike, compare_independent, describe_shapes
from .library import load_torchmetrics
from .metric import CollectedMetric, Metric, MetricKind
from .mixup import Mixture
from .request import TaskRequest
from .total import Total

KINDS = {
    "average_precision": MetricKind("mean average precision"),
    "f1": MetricKind("mean F1"),
}
"""What a multi-label classifier may be judged by."""


@settings_class
class MultilabelSettings(ImageSettings):
    """What a multi-label task may be told."""

    metric: Annotated[
        Literal["average_precision", "f1"],
        entry("mean over classes of average_precision, or of f1 at a probability of one half"),
    ] = "average_precision"
    separator: Annotated[
        StrictStr | None, entry("between names in a table's cell (default: | ; or ,)")
    ] = None


class Multilabel(Task):
    """Marks float [n, classes] of scores [n, classes]: 1, 0, or -1 where nobody knows.

    The scores are the network's output, or the entry ``logits`` of it, before the sigmoid.
    """

    name = "multilabel"

    def __init__(self, data: TaskData | None = None, metric: str = "average_precision") -> None:
        """Take batches of (inputs, marks), and the name of the metric (see `KINDS`)."""
        if metric not in KINDS:
            raise wrong_value("metric", f"one of {', '.join(KINDS)}", metric)
        self.data, self.measure = data, metric

    @classmethod
    def open(cls, request: TaskRequest) -> Multilabel:
        """Open tables of labels or COCO files (see `pruner.data.open_label_sets`)."""
        settings = request.read_settings(MultilabelSettings)
        load_torchmetrics()
        task = cls(metric=settings.metric)
        scores = task.read(request.run())
        if scores.ndim != 2:
            raise PrunerError(
                f"{request.network} is no multi-label classifier: its scores are "
                f"{describe_shapes(scores)}, expected [n, classes]"
            )
        preprocessing = request.make_preprocessing(settings.mean, settings.std)

        def open_folder(path: str) -> TaskData:
            return open_label_sets(
                path, preprocessing, outputs=scores.shape[1], separator=settings.separator,
                workers=settings.workers, on_error=settings.on_error,
            )  # fmt: skip

        return task.with_data(request.open_data(open_folder, preprocessing, **settings.saved))

    def settings(self) -> Mapping[str, Any]:
        """Return the metric."""
        return {"metric": self.measure}

    def read(self, results: Any) -> Tensor:
        """Take the scores."""
        return extract_scores(results)

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """Return the mean binary cross-entropy over the classes that are known, in nats."""
        return self._total(outputs, targets).mean

    def mean_loss(self, outputs: Any, targets: Any, smoothing: float = 0.0) -> Tensor:
        """Return the same with marks drawn towards one half."""
        return self._total(outputs, targets, smoothing).mean

    def total_loss(self, outputs: Any, targets: Any) -> Total:
        """Return the sum over the classes that are known."""
        return self._total(outputs, targets)

    def _total(self, scores: Tensor, marks: Any, smoothing: float = 0.0) -> Total:
        marks = marks.to(scores.dtype)
        known = marks >= 0
        wanted = (1 - smoothing) * marks.clamp_min(0) + smoothing / 2
        losses = binary_cross_entropy_with_logits(scores, wanted, reduction="none")
        return Total((losses * known).sum(), max(int(known.sum()), 1))

    def mix_targets(self, targets: Any, outputs: Any, mixture: Mixture) -> Tensor:
        """Mix marks to probabilities; a class is known where it is in both."""
        marks = targets.to(outputs.dtype)
        other = marks[mixture.partner]
        mixed = mixture.share * marks + (1 - mixture.share) * other
        return torch.where((marks >= 0) & (other >= 0), mixed, -torch.ones_like(mixed))

    def divergence(self, outputs: Any, dense: Any, temperature: float = 1.0) -> Total:
        """Return T^2 KL(dense || outputs) of whether each class is there, and their number."""
        check_alike(outputs, dense)
        parts = compare_independent(outputs / temperature, dense / temperature)
        return Total(temperature**2 * parts.sum(), dense.numel())

    def metric(self) -> Metric:
        """Return the mean over classes; those that are nowhere do not count."""
        return CollectedMetric(KINDS[self.measure], _keep, _MEASURES[self.measure])

    def check(self, outputs: Any, targets: Any) -> None:
        """Refuse anything but scores [n, classes] and marks of that shape, from -1 to 1."""
        shape = describe_shapes(outputs)
        if not isinstance(outputs, Tensor) or outputs.ndim != 2:
            raise PrunerError(f"expected scores [n, classes], got {shape} from the network")
        if not isinstance(targets, Tensor) or targets.shape != outputs.shape:
            raise PrunerError(
                f"marks {describe_shapes(targets)} do not fit scores {shape}: expected 1 or 0 for "
                "every image and class"
            )
        marks = targets.double()
        wrong = marks[~((marks >= 0) & (marks <= 1) | (marks == -1))]
        if len(wrong):
            raise PrunerError(
                f"marks hold {float(wrong[0]):g}: expected 1 and 0, and -1 for what is not known"
            )


def _keep(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Keep probabilities and marks; what is there in part counts as there above one half."""
    return outputs.sigmoid(), targets.round().long()


def _measure_precision(scores: Tensor, marks: Tensor) -> Tensor:
    """Return the mean over classes that are there of the area below precision over recall."""
    measure = load_torchmetrics().functional.classification.binary_average_precision
    return _average(measure, scores, marks)


def _measure_f1(scores: Tensor, marks: Tensor) -> Tensor:
    """Return the mean over classes that are there of the F1 at one half."""
    return _average(load_torchmetrics().functional.classification.binary_f1_score, scores, marks)


def _average(measure: Callable[..., Tensor], scores: Tensor, marks: Tensor) -> Tensor:
    """Average a measure of one class over those that some sample shows."""
    there = (marks == 1).any(0).nonzero().flatten().tolist()
    if not there:
        raise PrunerError("no image of the test samples shows a class, so a metric says nothing")
    return torch.stack([measure(scores[:, k], marks[:, k], ignore_index=-1) for k in there]).mean()


_MEASURES = {"average_precision": _measure_precision, "f1": _measure_f1}
