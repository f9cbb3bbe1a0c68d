"""Object detectors of the transformers library: DETR, YOLOS and their kin."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import PrunerError
from ..box_divergence import PredictionGroup, compare_predictions
from ..total import Total
from .base import Boxes, Detector, stack_images, to_centres, to_corners

_MOST = 100
"""Boxes of an image at most."""


class QueryDetector(Detector):
    """One class and one box for every query; losses are the model's own ``loss_function``."""

    first_label = 0

    def __init__(self, model: Any, mean: Sequence[float], std: Sequence[float]) -> None:
        """Take loss and configuration of a model, which may be traced later, and its images' form.

        Args:
            model: Of the library's object detection models.
            mean: Of each channel, subtracted from images in 0..1.
            std: By which the difference is divided.
        """
        self.config = copy.deepcopy(model.config)
        if hasattr(self.config, "auxiliary_loss"):
            self.config.auxiliary_loss = False  # of layers within, which a traced model hides
        self.loss_function = model.loss_function
        self.mean, self.std = tuple(mean), tuple(std)
        self.classes = int(self.config.num_labels)

    def predict(self, module: nn.Module, images: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return logits [n, queries, classes] and pred_boxes [n, queries, 4], relative."""
        results = module(pixel_values=stack_images(images))
        try:
            return {name: results[name] for name in ("logits", "pred_boxes")}
        except (KeyError, TypeError, IndexError):
            raise PrunerError(
                f"{type(module).__name__} returns a {type(results).__name__} without logits and "
                "pred_boxes: it is no object detector of transformers"
            ) from None

    def find_losses(
        self, module: nn.Module, images: Sequence[Tensor], targets: Sequence[Boxes]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the one loss that the model would, weighted as its configuration says."""
        found = self.predict(module, images)
        labels = [
            {
                "class_labels": one["labels"],
                "boxes": to_centres(one["boxes"], *image.shape[-2:]),
            }
            for one, image in zip(targets, images, strict=True)
        ]
        loss, *_ = self.loss_function(
            found["logits"], labels, found["logits"].device, found["pred_boxes"], self.config
        )
        return {"loss": loss}, found

    def detect(self, module: nn.Module, images: Sequence[Tensor]) -> list[Boxes]:
        """Return the likeliest class of every query, or the likeliest pairs of query and class."""
        found = self.predict(module, images)
        boxes = [to_corners(b, *x.shape[-2:]) for b, x in zip(found["pred_boxes"], images)]
        logits = found["logits"]
        exclusive = self._has_background(logits)
        scores = logits.softmax(-1)[..., :-1] if exclusive else logits.sigmoid()
        detections = []
        for own, corners in zip(scores, boxes):
            if exclusive:
                best, labels = own.max(-1)
                query = torch.arange(len(best), device=best.device)
            else:
                best, place = own.flatten().topk(min(_MOST, own.numel()))
                query, labels = place // own.shape[-1], place % own.shape[-1]
            detections.append({"boxes": corners[query], "scores": best, "labels": labels})
        return detections

    def compare(self, found: Mapping[str, Tensor], dense: Mapping[str, Tensor]) -> Total:
        """Return how far predictions are from the dense network's."""
        background = -1 if self._has_background(dense["logits"]) else None
        group = PredictionGroup("logits", ("pred_boxes",), background)
        return compare_predictions(found, dense, (group,))

    def _has_background(self, logits: Tensor) -> bool:
        """Whether a class of its own, the last, means that a query found nothing."""
        return logits.shape[-1] > self.classes

    def count_classes(self, predictions: Mapping[str, Tensor]) -> int:
        """Return what the configuration says."""
        return self.classes
