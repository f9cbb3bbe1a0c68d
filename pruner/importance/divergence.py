"""Divergence of a pruned network's class probabilities from the dense network's."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from ..graph import evaluation_mode, extract_logits
from ..reconstruction import repair
from ..structure import Network, Plan
from ..surgery import apply
from .base import Batch, count_images, prepare_inputs

MEASURED_ON = 128
"""Images that every cut is measured on: what costs the time, and tells a divergence well enough."""


def split_holdout(batches: list[Batch]) -> tuple[list[Batch], list[Batch]]:
    """Split batches into those to fit on and, of every four the last, those to measure on.

    The latter end at `MEASURED_ON` images. Of too few batches both parts are all.
    """
    fits: list[Batch] = []
    held_out: list[Batch] = []
    images = 0
    for k, batch in enumerate(batches):
        if k % 4 == 3 and images < MEASURED_ON:
            held_out.append(batch)
            images += count_images(batch)
        else:
            fits.append(batch)
    return fits, held_out or batches


@torch.no_grad()
def run_batches(module: nn.Module, batches: Iterable[Batch]) -> Iterator[Tensor]:
    """Compute a network's class scores in evaluation mode, batch by batch."""
    with evaluation_mode(module):
        for inputs, _ in batches:
            yield extract_logits(module(*prepare_inputs(module, inputs)))


def kl_divergence(target: Tensor, found: Tensor) -> Tensor:
    """Sum KL(target || found) of class scores [n, classes], or of maps [n, classes, H, W]."""
    axis = 1 if target.ndim == 4 else -1
    p, q = (torch.log_softmax(v, axis) for v in (target, found))
    return (p.exp() * (p - q)).sum()


def count_predictions(scores: Tensor) -> int:
    """Count the distributions that class scores hold: one an image, or one a pixel."""
    return scores.numel() // scores.shape[1 if scores.ndim == 4 else -1]


def mean_divergence(found: Iterable[Tensor], dense: Sequence[Tensor]) -> float:
    """Average KL(dense || cut) of batches' class scores, in nats, over images or maps' pixels."""
    total, count = 0.0, 0
    for scores, target in zip(found, dense, strict=True):
        total += float(kl_divergence(target.double(), scores.double()))
        count += count_predictions(target)
    return total / count


def structure_divergence(
    net: Network,
    plan: Plan,
    fits: list[Batch],
    measured: list[Batch],
    dense: Sequence[Tensor],
    *,
    layers: int | None = None,
    then: Callable[[nn.Module], None] | None = None,
) -> float:
    """Cut a network, repair it, and measure its divergence from the dense one, in nats.

    Args:
        net: The dense network.
        plan: What to cut.
        fits: Images to repair on.
        measured: Images to measure on.
        dense: The dense network's class scores of these.
        layers: How many layers to repair; see `pruner.repair`.
        then: What else is to be done to the cut network before it is measured.
    """
    small = apply(net, plan)
    repair(small, net, plan, fits, layers=layers)
    if then is not None:
        then(small)
    return mean_divergence(run_batches(small, measured), dense)
