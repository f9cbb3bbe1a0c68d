"""Detectors of the ultralytics library, whole or traced."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import PrunerError
from ..box_divergence import PredictionGroup
from .base import Boxes, Detector, stack_images, to_centres

_LEAST, _OVERLAP, _MOST, _CANDIDATES = 0.001, 0.7, 300, 3000
"""The library's own settings of an evaluation: score, overlap, boxes of an image."""


class GridDetector(Detector):
    """Scores and box distributions of every grid cell; losses are the library's criterion."""

    first_label = 0
    groups = (PredictionGroup("scores", ("boxes",)),)

    def __init__(self, model: Any) -> None:
        """Take the criterion and head of a ``DetectionModel``, which may be traced later."""
        from ultralytics.cfg import get_cfg

        own = copy.deepcopy(model)
        if not hasattr(getattr(own, "args", None), "box"):  # gains of losses, set by its trainer
            own.args = get_cfg()
        self.criterion = own.init_criterion()
        self.classes, self.end_to_end = int(own.model[-1].nc), bool(own.model[-1].end2end)

    def predict(self, module: nn.Module, images: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return scores [n, cells, classes] and boxes [n, cells, 4 * bins]."""
        return self._read(self._call(module, images)[1])

    def find_losses(
        self, module: nn.Module, images: Sequence[Tensor], targets: Sequence[Boxes]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the criterion's losses, means over the batch."""
        raw = self._call(module, images)[1]
        counts = torch.tensor([len(one["boxes"]) for one in targets])
        size = images[0].shape[-2:]
        batch = {
            "batch_idx": torch.arange(len(targets)).repeat_interleave(counts).to(images[0].device),
            "cls": torch.cat([one["labels"] for one in targets]).to(images[0].dtype),
            "bboxes": torch.cat([to_centres(one["boxes"], *size) for one in targets]),
        }
        self._move(images[0].device)
        losses, items = self.criterion(raw, batch)
        names = list(items) if isinstance(items, Mapping) else ["box_loss", "cls_loss", "dfl_loss"]
        return dict(zip(names, losses / len(targets), strict=True)), self._read(raw)

    def detect(self, module: nn.Module, images: Sequence[Tensor]) -> list[Boxes]:
        """Return the best boxes of every class that overlap by less than the library's 70%."""
        found = self._call(module, images)[0]
        if self.end_to_end:
            return [
                {"boxes": one[:, :4], "scores": one[:, 4], "labels": one[:, 5].long()}
                for one in found
            ]
        return [_choose_boxes(one.transpose(0, 1)) for one in found]

    def count_classes(self, predictions: Mapping[str, Tensor]) -> int:
        """Count the scores of a cell."""
        return predictions["scores"].shape[-1]

    def _read(self, raw: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the predictions that boxes are chosen from; of two heads the one in use."""
        own = raw.get("one2one" if self.end_to_end else "one2many", raw)
        return {name: own[name].transpose(1, 2) for name in ("scores", "boxes")}

    def _call(self, module: nn.Module, images: Sequence[Tensor]) -> tuple[Any, Any]:
        """Return decoded boxes (None in training) and what the losses are of."""
        results = module(stack_images(images))
        if isinstance(results, Mapping):
            return None, results
        if isinstance(results, tuple | list) and len(results) == 2:
            decoded, raw = results
            if isinstance(raw, Mapping):
                return decoded, raw
        raise PrunerError(
            f"{type(module).__name__} returns a {type(results).__name__}, expected the decoded "
            "boxes and the raw predictions of ultralytics' detectors"
        )

    def _move(self, device: torch.device) -> None:
        """Bring what the criterion keeps to a device."""
        for one in (self.criterion, *(vars(self.criterion).values())):
            for name, value in list(getattr(one, "__dict__", {}).items()):
                if isinstance(value, Tensor | nn.Module):
                    setattr(one, name, value.to(device))
                elif name == "device":
                    one.device = device


def _choose_boxes(rows: Tensor) -> Boxes:
    """Suppress boxes that overlap a better one of their class; rows are [cells, 4 + classes]."""
    from torchvision.ops import batched_nms

    x, y, w, h = rows[:, :4].unbind(1)
    boxes = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1)
    cells, labels = (rows[:, 4:] > _LEAST).nonzero().unbind(1)
    scores = rows[cells, 4 + labels]
    best = scores.argsort(descending=True)[:_CANDIDATES]
    cells, labels, scores = cells[best], labels[best], scores[best]
    keep = batched_nms(boxes[cells], scores, labels, _OVERLAP)[:_MOST]
    return {"boxes": boxes[cells[keep]], "scores": scores[keep], "labels": labels[keep]}
