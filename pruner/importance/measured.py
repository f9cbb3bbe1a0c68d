"""Measured: what the network itself says with a Dim cut or a Block bypassed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from ..graph import Block, StagedExecution, extract_logits
from ..reconstruction import repair
from ..structure import Dim, Importance, Network, Plan
from ..surgery import apply
from .layer_statistics import CalibrationStatistics, collect_statistics, inputs_of
from .network_criterion import Loss, NetworkCriterion, Progress
from .obs import Elimination
from .reconstruction import loss_curve, rank_by_elimination

Batch = tuple[Any, Any]
# Images that every cut is measured on: what costs the time, and tells a divergence well enough.
MEASURED_ON = 128
# Images that repair the layers behind a dropped block, and how many of those layers.
BYPASSED, REPAIRED = 128, 8
SHARES = (0.9, 0.75, 0.55, 0.35, 0.15)


class Measured(NetworkCriterion):
    """Divergence of the class probabilities from the dense network's, cut by cut.

    For each Dim and some of its sizes, the indices that `Reconstruction` would keep are kept, its
    consumers refitted by least squares, and the network is run; a Block is dropped and the next
    layers are repaired (`pruner.repair`). The measure is KL(dense || cut), the rise of the expected
    cross-entropy if labels were drawn from what the dense network says: it needs no labels, and is
    smooth on few images. Between measured sizes it is interpolated as a power of the
    reconstruction's error. Layers before a cut are run once for all its sizes. Of four batches
    three are for the fits, one for the measurement, as long as that has less than ``MEASURED_ON``
    images: what a fit has learnt by heart does not count.
    """

    name = "measured"

    def __init__(self, *, places: int = 64, shares: tuple[float, ...] = SHARES) -> None:
        self.places, self.shares = places, shares

    def score(
        self,
        net: Network,
        batches: Iterable[tuple[Any, Any]],
        loss: Loss | None,
        progress: Progress | None = None,
    ) -> Importance:
        """See `Whole.score`."""
        batches = list(batches)
        fits, held_out = split_holdout(batches)
        dense = collect_statistics(net, fits, self.places)
        few = [b for k, b in enumerate(fits) if k * len(first_input(b)) < BYPASSED]
        replay = StagedExecution(net.module, inputs_of(net.module, held_out))
        output = _output(net)
        base = [values[output] for values in replay.values([output])]
        cuts = {name: self._sizes(dim) for name, dim in net.dims.items()}
        total = sum(map(len, cuts.values())) + len(net.blocks)
        found: dict[str, Elimination] = {}
        rises: dict[str, NDArray[np.float64]] = {}
        blocks: dict[str, float] = {}
        done = 0
        for start, what in _in_order(net, dense, replay):
            for _ in replay.values([], before=start):
                pass
            if isinstance(what, Block):
                plan = Plan({}, {what.name: False})
                blocks[what.name] = structure_divergence(
                    net, plan, few, held_out, base, layers=REPAIRED
                )
                done += 1
            else:
                eliminated = dense.eliminate(what, cuts[what.name])
                errors = {}
                for size in cuts[what.name]:
                    with _changed(net.module, dense.cut(what, eliminated, size)):
                        errors[size] = divergence(replay.values([output]), output, base)
                found[what.name] = eliminated
                rises[what.name] = between(what, eliminated.errors, errors)
                done += len(errors)
            if progress is not None:
                progress(done, total)
        parts = rank_by_elimination(found, rises, net.dims)
        return Importance(self.name, parts, {n: blocks[n] for n in net.blocks}, rises)

    def _sizes(self, dim: Dim) -> list[int]:
        """Some options below the uncut size, the smallest among them."""
        options = np.array(dim.options()[:-1])
        if not len(options):
            return []
        nearest = {int(options[np.abs(options - s * dim.size).argmin()]) for s in self.shares}
        return sorted({*nearest, int(options[0])}, reverse=True)


def split_holdout(batches: list[Batch]) -> tuple[list[Batch], list[Batch]]:
    """What to fit on and what to measure on; the same where there are too few batches."""
    fits: list[Batch] = []
    held_out: list[Batch] = []
    images = 0
    for k, batch in enumerate(batches):
        if k % 4 == 3 and images < MEASURED_ON:
            held_out.append(batch)
            images += len(first_input(batch))
        else:
            fits.append(batch)
    return fits, held_out or batches


def between(
    dim: Dim, errors: Mapping[int, float], measured: Mapping[int, float]
) -> NDArray[np.float64]:
    """The measured curve at every option, piecewise a power of the reconstruction's error."""
    known = sorted(measured, reverse=True)
    x = np.log([max(errors[n], 1e-12 * max(errors.values(), default=1.0), 1e-300) for n in known])
    y = np.log(np.maximum.accumulate([max(measured[n], 1e-9) for n in known]))
    values = {dim.size: 0.0}
    for n in dim.options()[:-1]:
        e = np.log(max(errors[n], 1e-300))
        if e < x[0]:  # before the first: in proportion to the error
            values[n] = float(np.exp(y[0] + e - x[0]))
        else:
            values[n] = float(np.exp(np.interp(e, x, y)))
    return loss_curve(dim, values)


def divergence(found: Iterator[dict[str, Any]], output: str, base: list[Any]) -> float:
    """Mean KL(dense || cut) of the class probabilities over the images, in nats.

    Of maps [images, classes, H, W] over the pixels, too.
    """
    total, count = 0.0, 0
    for values, target in zip(found, base, strict=True):
        total += float(kl_divergence(target.double(), values[output].double()))
        count += count_predictions(target)
    return total / count


def kl_divergence(target: Tensor, found: Tensor) -> Tensor:
    """Sum of KL(target || found) of class scores [n, classes], or of maps [n, classes, H, W]."""
    axis = 1 if target.ndim == 4 else -1
    p, q = (torch.log_softmax(v, axis) for v in (target, found))
    return (p.exp() * (p - q)).sum()


def count_predictions(scores: Tensor) -> int:
    """How many distributions class scores hold: one an image, or one a pixel."""
    return scores.numel() // scores.shape[1 if scores.ndim == 4 else -1]


def first_input(batch: Batch) -> Tensor:
    """The (first) input of a batch."""
    return batch[0][0] if isinstance(batch[0], tuple) else batch[0]


def _output(net: Network) -> str:
    graph = net.module.graph
    node = next(n for n in graph.nodes if n.op == "output")
    return str(extract_logits(graph.process_outputs(node.args[0]), fx.Node).name)


def _in_order(
    net: Network, dense: CalibrationStatistics, replay: StagedExecution
) -> list[tuple[str, Dim | Block]]:
    """Dims and Blocks with the node from which on they change something, front to back."""
    found: list[tuple[int, str, Dim | Block]] = []
    for dim in net.dims.values():
        names = [r.node.name for r in dense.readings[dim.name]] or [
            node.name
            for node in replay.nodes
            if any(s.tensor.rpartition(".")[0] == str(node.target) for s in dim.slots)
        ]
        start = min(names, key=replay.place.__getitem__)
        found.append((replay.place[start], start, dim))
    for block in net.blocks.values():
        found.append((replay.place[block.join], block.join, block))
    return [(start, what) for _, start, what in sorted(found, key=lambda f: f[0])]


@contextmanager
def _changed(module: nn.Module, changes: Mapping[str, Tensor]) -> Iterator[None]:
    tensors = dict(module.named_parameters(remove_duplicate=False))
    before = {name: tensors[name].detach().clone() for name in changes}
    try:
        with torch.no_grad():
            for name, value in changes.items():
                tensors[name].copy_(value)
        yield
    finally:
        with torch.no_grad():
            for name, value in before.items():
                tensors[name].copy_(value)


def run_batches(module: nn.Module, batches: Iterable[Batch]) -> Iterator[Tensor]:
    """A network's class scores in evaluation mode, batch by batch."""
    module.eval()
    with torch.no_grad():
        for x in inputs_of(module, batches):
            yield extract_logits(module(*x))


def structure_divergence(
    net: Network,
    plan: Plan,
    fits: list[Batch],
    measured: list[Batch],
    base: list[Tensor],
    *,
    layers: int | None = None,
    then: Callable[[nn.Module], None] | None = None,
) -> float:
    """Divergence of a structure, cut and repaired (``layers``: see `pruner.repair`).

    base is what the dense network answers to the measured batches. What else is to be done to the
    structure before it is measured is ``then``.
    """
    small = apply(net, plan)
    repair(small, net, plan, fits, layers=layers)
    if then is not None:
        then(small)
    return divergence(({"": scores} for scores in run_batches(small, measured)), "", base)
