"""torchvision's detectors of two stages: Faster, Mask and Keypoint R-CNN."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..box_divergence import PredictionGroup
from .image_lists import ImageListDetector, set_mode

_SCALES, _FEW = (1, 2, 4), (1, 2)
"""Tiles have an image's whole side, half and a quarter of it; masks look at the larger ones."""


class TwoStageDetector(ImageListDetector):
    """What the first stage says of every anchor, and the second of fixed tiles of the image.

    The regions that the second stage looks at are the first one's choice, other ones for every
    network. Compared is what it says of the same regions: tiles of three sizes that overlap by
    half.
    """

    groups = (
        PredictionGroup("objectness", ("anchor_deltas",)),
        PredictionGroup("region_scores", ("region_deltas",), 0),
    )

    def __init__(self) -> None:
        """Record features, image sizes and what the first stage says."""
        super().__init__(("transform", "backbone", "rpn.head"))

    def count_classes(self, predictions: Mapping[str, Tensor]) -> int:
        """Count the columns but the first, which is the background's."""
        return predictions["region_scores"].shape[-1] - 1

    def _read(self, module: nn.Module, found: Mapping[str, Any]) -> dict[str, Tensor]:
        objectness, deltas = found["rpn.head"]
        features, images = found["backbone"], found["transform"][0]
        if isinstance(features, Tensor):
            features = OrderedDict([("0", features)])
        return {
            "objectness": torch.cat([_list_places(x, 1) for x in objectness], 1),
            "anchor_deltas": torch.cat([_list_places(x, 4) for x in deltas], 1),
            **_read_regions(module.roi_heads, features, images.image_sizes),
        }

    def _switch(self, module: nn.Module, training: bool) -> Any:
        own = {module, module.rpn, module.roi_heads}
        return set_mode(module, own.__contains__, training)


def _list_places(maps: Tensor, size: int) -> Tensor:
    """Return maps [n, anchors * size, h, w] as [n, h * w * anchors, size]."""
    n, _, h, w = maps.shape
    return maps.view(n, -1, size, h, w).permute(0, 3, 4, 1, 2).reshape(n, -1, size)


def _read_regions(
    heads: Any, features: Mapping[str, Tensor], sizes: Sequence[tuple[int, int]]
) -> dict[str, Tensor]:
    """Return what the second stage says of tiles: of every image [n, tiles, ...]."""
    like = next(iter(features.values()))
    tiles = [make_tiles(size, _SCALES).to(like) for size in sizes]
    pooled = heads.box_roi_pool(features, tiles, sizes)
    scores, deltas = heads.box_predictor(heads.box_head(pooled))
    found = {
        "region_scores": scores.unflatten(0, (len(sizes), -1)),
        "region_deltas": deltas.flatten(1).unflatten(0, (len(sizes), -1)),
    }
    few = [make_tiles(size, _FEW).to(like) for size in sizes]
    for name in ("mask", "keypoint"):
        if getattr(heads, f"has_{name}")():
            pool, head, predictor = (
                getattr(heads, f"{name}_{part}") for part in ("roi_pool", "head", "predictor")
            )
            maps = predictor(head(pool(features, few, sizes)))
            found[f"{name}_maps"] = maps.unflatten(0, (len(sizes), -1))
    return found


def make_tiles(size: tuple[int, int], scales: Sequence[int]) -> Tensor:
    """Return boxes [tiles, 4] of an image of height and width that overlap by half."""
    height, width = size
    tiles = [
        (x * width, y * height, x * width + width / scale, y * height + height / scale)
        for scale in scales
        for y in torch.linspace(0, 1 - 1 / scale, 2 * scale - 1).tolist()
        for x in torch.linspace(0, 1 - 1 / scale, 2 * scale - 1).tolist()
    ]
    return torch.tensor(tiles)
