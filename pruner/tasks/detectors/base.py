"""Detector: how a kind of detector is called, and where its predictions and losses are."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..box_divergence import PredictionGroup, compare_predictions
from ..total import Total

Boxes = dict[str, Tensor]
"""boxes float32 [k, 4] (left, top, right, bottom, in pixels of the input), labels int64 [k], and
scores [k] of those that were found."""


class Detector(ABC):
    """Calls the detectors of one library.

    Attributes:
        groups: Which of its predictions belong together.
        first_label: The number of its first class: 1 where 0 is the background.
        mean: Of each channel, where images are to come normalized; 0 where it does that itself.
        std: By which the difference is divided.
    """

    groups: tuple[PredictionGroup, ...] = ()
    first_label: int = 1
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    @abstractmethod
    def predict(self, module: nn.Module, images: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return all predictions by name, before any is chosen, each [n, ...]."""

    @abstractmethod
    def find_losses(
        self, module: nn.Module, images: Sequence[Tensor], targets: Sequence[Boxes]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the detector's own losses by name, and what `predict` returns."""

    @abstractmethod
    def detect(self, module: nn.Module, images: Sequence[Tensor]) -> list[Boxes]:
        """Return the boxes that are found in every image, with scores and labels."""

    @abstractmethod
    def count_classes(self, predictions: Mapping[str, Tensor]) -> int:
        """Return how many classes are told apart, the background not counted."""

    def compare(self, found: Mapping[str, Tensor], dense: Mapping[str, Tensor]) -> Total:
        """Return how far predictions are from the dense network's."""
        return compare_predictions(found, dense, self.groups)


def stack_images(images: Sequence[Tensor]) -> Tensor:
    """Return images of one size as a batch."""
    return images if isinstance(images, Tensor) else torch.stack(list(images))


def to_corners(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return boxes [..., 4] of centre and size, relative to the image, as corners in pixels."""
    x, y, w, h = boxes.unbind(-1)
    corners = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], -1)
    return corners * corners.new_tensor([width, height, width, height])


def to_centres(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return boxes [k, 4] of corners in pixels as centre and size, relative to the image."""
    left, top, right, bottom = boxes.unbind(-1)
    centres = torch.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], -1)
    return centres / centres.new_tensor([width, height, width, height])
