"""Train LR-ASPP or DeepLabV3 on the masks of rendered scenes.

    python -m examples.segmentation lraspp_mobilenet_v2

What `examples.detection` says of scenes, weights and figures holds here. The metric is the mean
over classes, the background's too, of intersection over union.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from .networks import MOBILENET, SEGMENTERS
from .scene_set import SceneSet, open_scenes
from .training import Job, Recipe, iterate_rows, make_parser, normalize, read_recipe, train

RECIPE = Recipe(epochs=8, batch=16, lr=1e-3)


def compute_loss(outputs: Tensor, masks: Tensor) -> Tensor:
    """Return the mean cross-entropy of scores [n, classes, h, w] against classes [n, h, w]."""
    return cross_entropy(outputs.float(), masks)


class MeanOverlap:
    """Accumulates how often each class was taken for each; computes mean intersection over union.

    Args:
        classes: How many, the background counted.
    """

    def __init__(self, classes: int) -> None:
        self.confusion = torch.zeros(classes, classes, dtype=torch.int64)

    def update(self, outputs: Tensor, masks: Tensor) -> None:
        """Add scores [n, classes, h, w] and true classes [n, h, w]."""
        count = len(self.confusion)
        pairs = masks.flatten().long() * count + outputs.argmax(1).flatten()
        self.confusion += torch.bincount(pairs, minlength=count**2).reshape(count, count)

    def compute(self) -> float:
        """Return the mean over the classes that occur."""
        both = self.confusion.diagonal()
        either = self.confusion.sum(0) + self.confusion.sum(1) - both
        there = self.confusion.sum(1) > 0
        return float((both[there] / either[there]).mean())


@torch.no_grad()
def evaluate(model: nn.Module, scenes: SceneSet, batch: int = 32) -> float:
    """Return the mean intersection over union of a segmenter on scenes."""
    assert scenes.masks is not None
    metric = MeanOverlap(len(scenes.classes) + 1)
    for rows in iterate_rows(len(scenes), batch):
        metric.update(model(normalize(scenes.images[rows]))["out"], scenes.masks[rows])
    return metric.compute()


def make_job(
    network: str, folder: Path, limit: int | None, val_limit: int | None, seed: int
) -> Job:
    """Return what to train: a network on a folder of scenes."""
    scenes = open_scenes(folder / "train", limit, masks=True)
    held_out = open_scenes(folder / "val", val_limit, masks=True)
    truth = scenes.masks
    assert truth is not None
    torch.manual_seed(seed)
    model = SEGMENTERS[network](len(scenes.classes), MOBILENET)

    def fetch(rows: Tensor, mirror: Tensor) -> tuple[Tensor, Tensor]:
        images, masks = normalize(scenes.images[rows]), truth[rows].long()
        images[mirror], masks[mirror] = images[mirror].flip(-1), masks[mirror].flip(-1)
        return images, masks

    about = {
        "task": "segmentation", "network": network, "classes": list(scenes.classes),
        "size": scenes.images.shape[-1], "scenes": len(scenes), "held_out": len(held_out),
    }  # fmt: skip
    return Job(
        network, model, len(scenes), fetch,
        lambda module, images, masks: compute_loss(module(images)["out"], masks),
        lambda module: evaluate(module, held_out), "mIoU", about,
    )  # fmt: skip


def main() -> None:
    """Train what the arguments ask for."""
    given = make_parser(__doc__ or "", "examples.segmentation", RECIPE, SEGMENTERS).parse_args()
    job = make_job(given.network, given.scenes, given.limit, given.val_limit, given.seed)
    train(job, read_recipe(given), given.cache, given.results)


if __name__ == "__main__":
    main()
