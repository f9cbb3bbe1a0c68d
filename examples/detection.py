"""Train an SSD or SSDLite on rendered scenes.

    python examples/prepare.py imagenet           # weights of MobileNetV2, and photographs
    python -m examples.scenes data/scenes ...     # its help says how
    python -m examples.detection ssdlite_mobilenet_v2

Weights go to benchmarks/cache/NETWORK.safetensors, figures to benchmarks/results/trained.json. The
same command goes on where it was interrupted. The metric is COCO's mean average precision (over
intersections of 50 to 95%), by torchmetrics on faster-coco-eval or pycocotools.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .networks import DETECTORS, MOBILENET
from .scene_set import SceneSet, Targets, open_scenes
from .training import Job, Recipe, iterate_rows, make_parser, read_recipe, train

RECIPE = Recipe(epochs=8, batch=16, lr=1e-3)


def compute_losses(model: nn.Module, images: list[Tensor], targets: Targets) -> dict[str, Tensor]:
    """Return the losses by name that a torchvision detector in training mode returns."""
    return dict(model(images, targets))


class MeanPrecision:
    """Accumulates detections and truth; computes COCO's mean average precision."""

    def __init__(self) -> None:
        from torchmetrics.detection import MeanAveragePrecision

        fast = importlib.util.find_spec("faster_coco_eval") is not None
        backend: Any = "faster_coco_eval" if fast else "pycocotools"
        self.metric = MeanAveragePrecision(backend=backend)
        self.metric.warn_on_many_detections = False

    def update(self, outputs: Targets, targets: Targets) -> None:
        """Add images: each has boxes, scores and labels, and true boxes and labels."""
        self.metric.update(outputs, targets)

    def compute(self) -> dict[str, float]:
        """Return the precision over all intersections, and at one of 50%."""
        found = self.metric.compute()
        return {"map": float(found["map"]), "map_50": float(found["map_50"])}


@torch.no_grad()
def evaluate(model: nn.Module, scenes: SceneSet, batch: int = 32) -> dict[str, float]:
    """Return the mean average precision of a detector on scenes."""
    metric = MeanPrecision()
    for rows in iterate_rows(len(scenes), batch):
        outputs = model(list(scenes.images[rows].float() / 255))
        metric.update(outputs, scenes.find_targets(rows))
    return metric.compute()


def make_job(
    network: str, folder: Path, limit: int | None, val_limit: int | None, seed: int
) -> Job:
    """Return what to train: a network on a folder of scenes."""
    scenes = open_scenes(folder / "train", limit)
    held_out = open_scenes(folder / "val", val_limit)
    torch.manual_seed(seed)
    size = scenes.images.shape[-1]
    model = DETECTORS[network](len(scenes.classes), size, MOBILENET)

    def fetch(rows: Tensor, mirror: Tensor) -> tuple[list[Tensor], Targets]:
        images = scenes.images[rows].float() / 255
        images[mirror] = images[mirror].flip(-1)
        return list(images), scenes.find_targets(rows, mirror)

    def compute_loss(module: nn.Module, images: list[Tensor], targets: Targets) -> Tensor:
        return torch.stack(list(compute_losses(module, images, targets).values())).sum()

    about = {
        "task": "detection", "network": network, "classes": list(scenes.classes), "size": size,
        "scenes": len(scenes), "held_out": len(held_out),
    }  # fmt: skip
    return Job(
        network, model, len(scenes), fetch, compute_loss,
        lambda module: evaluate(module, held_out)["map"], "mAP", about,
    )  # fmt: skip


def main() -> None:
    """Train what the arguments ask for."""
    given = make_parser(__doc__ or "", "examples.detection", RECIPE, DETECTORS).parse_args()
    job = make_job(given.network, given.scenes, given.limit, given.val_limit, given.seed)
    train(job, read_recipe(given), given.cache, given.results)


if __name__ == "__main__":
    main()
