"""Boxes and labels as detectors take them, and what is wrong with others."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import PrunerError
from .detectors import Boxes
from .divergence import describe_shapes

_BEYOND = 1.0
"""Pixels by which rounding may bring a box beyond its image."""


def check_boxes(
    targets: Any, labels: range, sizes: Sequence[tuple[int, int]] | None = None
) -> None:
    """Raise PrunerError where targets are no boxes and labels of a batch's images.

    Args:
        targets: Of every image a dict with boxes [k, 4] and labels [k].
        labels: Those that the network has a class for; empty: not known.
        sizes: Height and width of every image, where known.
    """
    if not isinstance(targets, Sequence) or not all(isinstance(t, Mapping) for t in targets):
        raise PrunerError(
            f"targets {describe_shapes(targets)} are no boxes: expected a list with a dict of "
            "boxes [k, 4] and labels [k] for every image"
        )
    if sizes is not None and len(targets) != len(sizes):
        raise PrunerError(f"{len(sizes)} images come with the boxes of {len(targets)}")
    for row, target in enumerate(targets):
        boxes, own = target.get("boxes"), target.get("labels")
        where = f"image {row} of the batch"
        if not isinstance(boxes, Tensor) or not isinstance(own, Tensor):
            raise PrunerError(
                f"{where} has {', '.join(map(str, target)) or 'nothing'}: expected tensors boxes "
                "and labels"
            )
        whole = not own.is_floating_point() and own.dtype != torch.bool
        if boxes.shape != (own.numel(), 4) or own.ndim != 1 or not whole:
            raise PrunerError(
                f"{where} has boxes {describe_shapes(boxes)} and {own.dtype} labels "
                f"{describe_shapes(own)}: expected [k, 4], and whole numbers [k]"
            )
        _check_places(boxes, where, None if sizes is None else sizes[row])
        if labels and len(own) and (int(own.min()) < labels[0] or int(own.max()) > labels[-1]):
            raise PrunerError(
                f"{where} has labels from {int(own.min())} to {int(own.max())}, but the network "
                f"tells {len(labels)} classes apart: expected {labels[0]} to {labels[-1]}"
            )


def _check_places(boxes: Tensor, where: str, size: tuple[int, int] | None) -> None:
    """Refuse boxes without area, or beyond their image."""
    if not len(boxes):
        return
    low, high = boxes[:, :2], boxes[:, 2:]
    wrong = ~(torch.isfinite(boxes).all(1) & (high > low).all(1))
    reason = "is no box: expected left < right and top < bottom"
    if size is not None:
        limit = boxes.new_tensor([size[1], size[0]]) + _BEYOND
        beyond = (low < -_BEYOND).any(1) | (high > limit).any(1)
        if not wrong.any() and beyond.any():
            wrong, reason = beyond, f"reaches beyond its image of {size[1]} x {size[0]} pixels"
    if wrong.any():
        numbers = ", ".join(f"{v:.4g}" for v in boxes[wrong][0].tolist())
        raise PrunerError(
            f"{where}: ({numbers}) {reason} (boxes are left, top, right, bottom in pixels)"
        )


def prepare_target(target: Mapping[str, Any], device: torch.device, shift: int) -> Boxes:
    """Return an image's boxes on a device, labels shifted to the network's numbers."""
    own = {k: v.to(device) for k, v in target.items() if isinstance(v, Tensor)}
    return own | {"boxes": own["boxes"].float(), "labels": own["labels"].long() + shift}
