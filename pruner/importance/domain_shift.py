"""Domain shift: how alike a channel's mean map is over two domains (DSS, arXiv 2306.13237)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data import Batch, count_samples
from ..errors import PrunerError
from ..graph import evaluation_mode
from ..structure import Dim, Importance, Network
from ..tasks import NetworkCalls, Task
from .base import Callback, Loss
from .feature_maps import (
    FeatureMap,
    average_maps,
    count_runs,
    find_feature_maps,
    find_writing_cells,
)
from .network_criterion import NetworkCriterion

Floats = NDArray[np.float64]


class DomainShift(NetworkCriterion):
    """Cosine of an index's mean map over the data with that over the unlabelled second domain.

    With a and b an index's feature map, averaged over the samples of either domain, the worth of
    the index is ``a . b / (|a| |b|)`` (0 where one of them is zero everywhere): channels that see
    the domains differently go first (DSS: X. Sun 2023, arXiv 2306.13237). The map is what a layer
    that writes the Dim hands on, behind its batch norm, activation and sum: [H, W] of a channel of
    a convolution, the tokens of one of a token network, all positions of all channels of a head.
    Where several layers write a Dim, the cosine is their mean, shared out among them by magnitude.
    What has no positions beside its channel has a map of one number, whose cosine is its sign: such
    Dims say nothing. Since importance is not negative, cosines of a Dim are raised by as much as
    its least one lies below zero. The unit is its own: use it for the order within a Dim
    (``curves="measured"``), or with one width for all.
    """

    name = "domain_shift"
    needs = "activations"
    needs_target = True
    needs_task = False

    def score(
        self, net: Network, batches: Iterable[Batch], loss: Loss | None, progress: Callback = None,
        task: Task | None = None,
    ) -> Importance:  # fmt: skip
        """Compare the mean maps of both domains; see `NetworkCriterion.score`."""
        batches, task = list(batches), task or Task()
        if not batches:
            raise PrunerError(f"criterion {self.name!r}: batches are empty; give at least one")
        maps = find_feature_maps(net)
        with evaluation_mode(net.module):
            source = NetworkCalls.record(task, net.module, batches)
            target = NetworkCalls.record(task, net.module, draw_target(task, batches))
            first, total = count_runs(source), count_runs(source) + count_runs(target)

            def report(done: int, _: int | None, before: int = 0) -> None:
                if progress is not None:
                    progress(before + done, total)

            ours = average_maps(net, maps, source, "the data's", report)
            theirs = average_maps(
                net, maps, target, "the second domain's", lambda done, _: report(done, _, first)
            )
        found: dict[str, dict[str, list[Floats]]] = defaultdict(lambda: defaultdict(list))
        for one, a, b in zip(maps, ours, theirs, strict=True):
            cosine = compare_maps(one, a, b, net.dims[one.dim].size)
            found[one.dim][one.cell].append(cosine)
        parts = {}
        for name, dim in net.dims.items():
            cosines = {cell: np.mean(values, 0) for cell, values in found[name].items()}
            parts[name] = _share_out(cosines or _stand_in(net, dim))
        return Importance(self.name, parts)


def draw_target(task: Task, batches: list[Batch]) -> list[Batch]:
    """Return as many samples of the second domain as there are in batches, if it has so many.

    Raises:
        PrunerError: The task has no second domain, or that is empty.
    """
    if task.target is None:
        raise PrunerError(f"task {task.name!r} has no second domain: give one (--target-data DIR)")
    count = sum(count_samples(inputs) for inputs, _ in batches)
    most = max(count_samples(inputs) for inputs, _ in batches)
    size = max(k for k in range(1, most + 1) if count % k == 0)  # none are left over
    found = [(batch[0], None) for batch in task.target.train(size, augment=False, limit=count)]
    if not found:
        raise PrunerError("the second domain has no samples: see --target-data")
    return found


def compare_maps(one: FeatureMap, a: Tensor, b: Tensor, size: int) -> Floats:
    """Return the cosine of two mean maps for every index of a Dim, 0 where it is not defined.

    Args:
        one: Which positions belong to which index.
        a: [positions of the axis, other positions].
        b: Likewise, of the other domain.
        size: The Dim's indices.

    Raises:
        PrunerError: The maps differ in size.
    """
    if a.shape != b.shape:
        raise PrunerError(
            f"the two domains' maps at {one.node} differ in size ({tuple(a.shape)} and "
            f"{tuple(b.shape)}): maps are compared position by position, so inputs of both must "
            "have one size"
        )
    # By their own largest value first: squares of small ones would be lost.
    scale = torch.stack([a.abs().max(), b.abs().max()]).clamp_min(torch.finfo(a.dtype).tiny)
    a, b = a / scale[0], b / scale[1]
    product = one.fold(a * b, size)
    norms = (one.fold(a.square(), size) * one.fold(b.square(), size)).sqrt()
    return torch.nan_to_num(product / norms, nan=0.0).clamp(-1, 1).numpy()


def _stand_in(net: Network, dim: Dim) -> dict[str, Floats]:
    """Return cosines of a Dim that no value has: what is the same for all inputs is alike."""
    cells = [located.cell.name for located in find_writing_cells(net, dim)]
    return {cell: np.ones(dim.size) for cell in cells or [""]}


def _share_out(cosines: dict[str, Floats]) -> dict[str, Floats]:
    """Share the mean of cells' cosines, raised to be at least zero, out among them."""
    mean = np.mean([*cosines.values()], 0)
    worth = mean - min(0.0, float(mean.min()))
    weights = {cell: np.abs(values) for cell, values in cosines.items()}
    total = np.sum([*weights.values()], 0)
    even = np.full(len(mean), 1 / len(cosines))
    return {
        cell: worth * np.divide(weight, total, where=total > 0, out=even.copy())
        for cell, weight in weights.items()
    }
