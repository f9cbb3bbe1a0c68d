"""Reconstruction: what consumers can no longer compute once they are refitted to what is left."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from ..data import Batch
from ..graph import evaluation_mode
from ..structure import Dim, Importance, Network
from ..tasks import NetworkCalls, Task
from .base import Callback, Loss
from .layer_statistics import collect_statistics
from .network_criterion import NetworkCriterion
from .obs import Elimination


class Reconstruction(NetworkCriterion):
    """Mean squared error of all consumers' outputs after a least-squares refit.

    Of every Dim, indices are taken out backward and greedily (`pruner.importance.obs`); of a Block,
    the error is that of the best linear map from what skips it to what it adds up to. Outputs are
    counted behind their batch norm. Forward passes only; the unit is its own.
    """

    name = "reconstruction"
    needs_task = False

    def __init__(self, *, spatial_samples: int = 64, places: int = 0) -> None:
        """Set the positions sampled of each image; places is the former name."""
        self.spatial_samples = places or spatial_samples

    def score(
        self, net: Network, batches: Iterable[Batch], loss: Loss | None, progress: Callback = None,
        task: Task | None = None,
    ) -> Importance:  # fmt: skip
        """Refit every layer that reads a Dim, at all widths; see `NetworkCriterion.score`."""
        with evaluation_mode(net.module):
            calls = NetworkCalls.record(task or Task(), net.module, batches)
            statistics = collect_statistics(net, calls, self.spatial_samples)
        curves, parts = {}, {}
        for done, (name, dim) in enumerate(net.dims.items(), 1):
            found = statistics.eliminate(dim)
            curves[name] = build_loss_curve(dim, found.errors)
            parts[name] = {"": rank_by_elimination(found, curves[name], dim)}
            if progress is not None:
                progress(done, len(net.dims))
        blocks = {name: statistics.measure_bypass(block) for name, block in net.blocks.items()}
        return Importance(self.name, parts, blocks, curves)


def build_loss_curve(dim: Dim, errors: Mapping[int, float]) -> NDArray[np.float64]:
    """List the errors of the Dim's options, never less for fewer indices: [options]."""
    values = np.array([errors[n] for n in dim.options()])
    return np.maximum.accumulate(values[::-1])[::-1]


def rank_by_elimination(
    found: Elimination, curve: NDArray[np.float64], dim: Dim
) -> NDArray[np.float64]:
    """Score indices in the order of elimination, as high as the Dim's loss curve is steep."""
    steps = np.interp(np.arange(dim.size - 1, -1, -1), dim.options(), curve)
    steps = np.maximum.accumulate(np.diff(steps, prepend=0.0))
    # Equal scores would lose the order.
    steps = steps + 1e-9 * (steps[-1] or 1.0) * np.arange(dim.size)
    scores = np.empty(dim.size)
    scores[found.order] = steps
    return scores
