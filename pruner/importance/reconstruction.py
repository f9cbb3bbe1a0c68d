"""Reconstruction: what consumers can no longer compute once they are refitted to what is left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..structure import Dim, Importance, Network
from .layer_statistics import collect_statistics
from .network_criterion import Loss, NetworkCriterion, Progress
from .obs import Elimination


class Reconstruction(NetworkCriterion):
    """Mean squared error of all consumers' outputs after a least-squares refit.

    Of every Dim, indices are taken out backward and greedily (`pruner.elimination`); of a Block,
    the error is that of the best linear map from what skips it to what it adds up to. Outputs are
    counted behind their batch norm. Forward passes only; the unit is its own.
    """

    name = "reconstruction"

    def __init__(self, *, places: int = 64) -> None:
        self.places = places

    def score(
        self,
        net: Network,
        batches: Iterable[tuple[Any, Any]],
        loss: Loss | None,
        progress: Progress | None = None,
    ) -> Importance:
        """See `Whole.score`."""
        dense = collect_statistics(net, batches, self.places)
        found = {}
        for done, (name, dim) in enumerate(net.dims.items(), 1):
            found[name] = dense.eliminate(dim)
            if progress is not None:
                progress(done, len(net.dims))
        rises = {name: loss_curve(net.dims[name], f.errors) for name, f in found.items()}
        blocks = {name: dense.bypass(block)[0] for name, block in net.blocks.items()}
        return Importance(self.name, rank_by_elimination(found, rises, net.dims), blocks, rises)


def loss_curve(dim: Dim, errors: Mapping[int, float]) -> NDArray[np.float64]:
    """What is lost at each of the Dim's options, never less for fewer indices: [options]."""
    values = np.array([errors[n] for n in dim.options()])
    return np.maximum.accumulate(values[::-1])[::-1]


def rank_by_elimination(
    found: Mapping[str, Elimination],
    rises: Mapping[str, NDArray[np.float64]],
    dims: Mapping[str, Dim],
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Scores in the order of elimination, as large as the Dim's curve is steep."""
    result = {}
    for name, dim in dims.items():
        curve = np.interp(np.arange(dim.size - 1, -1, -1), dim.options(), rises[name])
        steps = np.maximum.accumulate(np.diff(curve, prepend=0.0))
        # Equal scores would lose the order.
        steps = steps + 1e-9 * (steps[-1] or 1.0) * np.arange(dim.size)
        scores = np.empty(dim.size)
        scores[found[name].order] = steps
        result[name] = {"": scores}
    return result
