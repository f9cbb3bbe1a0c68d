"""Train a small U-Net to tell how far away everything on a rendered scene is.

    python -m examples.depth unet

What `examples.detection` says of scenes, weights and figures holds here. The network answers with
logarithms of distances; the metric is the mean relative error of the distances.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from .networks import UNet
from .scene_set import SceneSet, open_scenes
from .scenes.compose import FAR
from .training import Job, Recipe, iterate_rows, make_parser, normalize, read_recipe, train

RECIPE = Recipe(epochs=6, batch=16, lr=2e-3)


def compute_loss(outputs: Tensor, depth: Tensor) -> Tensor:
    """Return the mean absolute difference of logarithms: outputs [n, 1, h, w], depth [n, h, w]."""
    return l1_loss(outputs[:, 0].float(), depth.log())


class RelativeError:
    """Accumulates relative errors of distances; computes their mean over pixels."""

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    def update(self, outputs: Tensor, depth: Tensor) -> None:
        """Add logarithms of distances [n, 1, h, w] and true distances [n, h, w]."""
        error = (outputs[:, 0].exp() - depth).abs() / depth
        self.total += float(error.double().sum())
        self.count += error.numel()

    def compute(self) -> float:
        """Return the mean."""
        return self.total / self.count


@torch.no_grad()
def evaluate(model: nn.Module, scenes: SceneSet, batch: int = 32) -> float:
    """Return the mean relative error of a network on scenes."""
    assert scenes.depth is not None
    metric = RelativeError()
    for rows in iterate_rows(len(scenes), batch):
        metric.update(model(normalize(scenes.images[rows])), scenes.depth[rows])
    return metric.compute()


def judge_constant(scenes: SceneSet) -> float:
    """Return the metric of a network to which everything is as far as the photograph."""
    assert scenes.depth is not None
    metric = RelativeError()
    metric.update(torch.full_like(scenes.depth, FAR).log()[:, None], scenes.depth)
    return metric.compute()


def make_job(folder: Path, limit: int | None, val_limit: int | None, seed: int) -> Job:
    """Return what to train: the U-Net on a folder of scenes."""
    scenes = open_scenes(folder / "train", limit, depth=True)
    held_out = open_scenes(folder / "val", val_limit, depth=True)
    truth = scenes.depth
    assert truth is not None
    torch.manual_seed(seed)

    def fetch(rows: Tensor, mirror: Tensor) -> tuple[Tensor, Tensor]:
        images, depth = normalize(scenes.images[rows]), truth[rows]
        images[mirror], depth[mirror] = images[mirror].flip(-1), depth[mirror].flip(-1)
        return images, depth

    about = {
        "task": "depth", "network": "unet", "size": scenes.images.shape[-1],
        "scenes": len(scenes), "held_out": len(held_out),
        "everything_far": round(judge_constant(held_out), 4),
    }  # fmt: skip
    return Job(
        "unet", UNet(), len(scenes), fetch,
        lambda module, images, depth: compute_loss(module(images), depth),
        lambda module: evaluate(module, held_out), "relative error", about,
    )  # fmt: skip


def main() -> None:
    """Train what the arguments ask for."""
    given = make_parser(__doc__ or "", "examples.depth", RECIPE, ["unet"]).parse_args()
    job = make_job(given.scenes, given.limit, given.val_limit, given.seed)
    train(job, read_recipe(given), given.cache, given.results)


if __name__ == "__main__":
    main()
