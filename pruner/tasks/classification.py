"""Classification: one row of class scores an image, and one label."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..data import TaskData, open_images
from ..errors import PrunerError
from .base import Task
from .class_scores import extract_scores
from .divergence import compare_scores, describe_shapes
from .metric import MeanMetric, Metric, MetricKind
from .mixup import Mixture
from .request import TaskRequest
from .total import Total

ACCURACY = MetricKind("accuracy")


class Classification(Task):
    """Labels int64 [n] of class scores [n, classes]: cross-entropy, and the share that is right.

    The scores are the network's output, or the entry ``logits`` of it.
    """

    name = "classification"

    def __init__(self, data: TaskData | None = None) -> None:
        """Take batches of (inputs, labels); None: the caller hands them over."""
        self.data = data

    @classmethod
    def open(cls, request: TaskRequest) -> Classification:
        """Open an image folder for a network of images; PrunerError where it is no classifier."""
        request.refuse_settings()
        size, classes = request.image_size(), _count_classes(request)

        def open_folder(path: str) -> TaskData:
            return open_images(
                path, size, outputs=classes, mean=request.mean, std=request.std,
                crop=request.crop, interpolation=request.interpolation,
            )  # fmt: skip

        return cls(request.open_data(open_folder))

    def read(self, results: Any) -> Any:
        """Take the class scores."""
        return extract_scores(results)

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """Return the mean cross-entropy in nats; targets may be probabilities [n, classes]."""
        return cross_entropy(outputs, targets)

    def mean_loss(self, outputs: Any, targets: Any, smoothing: float = 0.0) -> Tensor:
        """Return the mean cross-entropy with smoothed labels."""
        return cross_entropy(outputs, targets, label_smoothing=smoothing)

    def total_loss(self, outputs: Any, targets: Any) -> Total:
        """Return the sum of the images' cross-entropies."""
        return Total(cross_entropy(outputs, targets, reduction="sum"), len(targets))

    def mix_targets(self, targets: Any, outputs: Any, mixture: Mixture) -> Tensor:
        """Mix labels to probabilities [n, classes]."""
        return mixture.mix_labels(targets, outputs.shape[1])

    def divergence(self, outputs: Any, dense: Any, temperature: float = 1.0) -> Total:
        """Return KL(dense || outputs); see `compare_scores`."""
        return compare_scores(outputs, dense, temperature)

    def metric(self) -> Metric:
        """Return the accuracy: the share of images whose largest score is their class."""
        return MeanMetric(ACCURACY, lambda outputs, labels: outputs.argmax(1) == labels)

    def check(self, outputs: Any, targets: Any) -> None:
        """Refuse anything but scores [n, classes] and whole-numbered labels [n] of them."""
        shape = describe_shapes(outputs)
        if not isinstance(outputs, Tensor) or outputs.ndim != 2:
            raise PrunerError(f"expected class scores [n, classes], got {shape} from the network")
        if not isinstance(targets, Tensor) or targets.shape != outputs.shape[:1]:
            raise PrunerError(
                f"labels {describe_shapes(targets)} do not fit class scores {shape}: expected "
                f"whole numbers [{len(outputs)}]"
            )
        if targets.is_floating_point() or not len(targets):
            raise PrunerError(f"labels are {targets.dtype} {shape}: expected whole numbers [n]")
        low, high = int(targets.min()), int(targets.max())
        if low < 0 or high >= outputs.shape[1]:
            raise PrunerError(
                f"labels go from {low} to {high}, but the network tells {outputs.shape[1]} classes "
                f"apart: expected 0 to {outputs.shape[1] - 1}"
            )

    def fingerprint(self) -> str:
        """Return the data's own: keys of before there were tasks stay."""
        return self.fingerprint_data()


def _count_classes(request: TaskRequest) -> int:
    """Return the number of classes that the network tells apart in images."""
    with torch.no_grad():
        results = request.run()
    try:
        scores = extract_scores(results)
    except PrunerError as error:
        raise PrunerError(f"{request.network} is no classifier: {error}") from None
    if scores.ndim != 2:
        raise PrunerError(
            f"{request.network} is no classifier: its scores are "
            f"{'x'.join(map(str, scores.shape))}, not one row of class scores an image"
        )
    return int(scores.shape[1])
