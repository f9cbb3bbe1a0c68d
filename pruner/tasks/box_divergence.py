"""How far a detector's predictions are from the dense one's, before any of them is chosen.

What a detector returns are a few boxes out of thousands, another number of them for every network:
nothing that two networks could be compared by smoothly. Compared are the predictions that they are
chosen from: of every anchor, position, query or region its class scores and its box.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .divergence import check_alike, compare_independent, compare_values
from .total import Total


@dataclass(frozen=True)
class PredictionGroup:
    """Predictions [n, places, ...] of the same places.

    Attributes:
        scores: Name of the class scores [n, places, classes].
        values: Names of what is said of the same places beside: boxes [n, places, 4].
        background: The class that means nothing is there, where exactly one class is true
            (softmax); None where every class is true or not by itself (sigmoid).
    """

    scores: str
    values: tuple[str, ...] = ()
    background: int | None = None


def compare_predictions(
    found: Mapping[str, Tensor],
    dense: Mapping[str, Tensor],
    groups: Sequence[PredictionGroup],
) -> Total:
    """Return the divergence of two detectors' predictions, and the number of images.

    Of each group: the places' KL(dense || found), summed and divided by the number of objects
    that the dense network expects, and the squared errors of the values relative to the dense ones,
    where it expects objects. A place's expected number of objects is one less the background's
    probability, or the largest of independent classes. So nothing drowns in the thousands of places
    where nothing is. What no group names counts by its relative squared error.

    Args:
        found: Predictions of the pruned network by name.
        dense: Of the dense one.
        groups: Which belong together.

    Raises:
        PrunerError: The networks' predictions differ in shape.
    """
    check_alike(found, dense)
    parts, named = [], set[str]()
    for group in groups:
        if group.scores in dense:
            parts.append(_compare_group(found, dense, group))
            named.update((group.scores, *group.values))
    rest = [name for name in dense if name not in named]
    if rest:
        parts.append(compare_values({k: found[k] for k in rest}, {k: dense[k] for k in rest}).mean)
    images = len(next(iter(dense.values())))
    return Total(images * torch.stack(parts).sum(), images)


def _compare_group(
    found: Mapping[str, Tensor], dense: Mapping[str, Tensor], group: PredictionGroup
) -> Tensor:
    ours, theirs = found[group.scores], dense[group.scores]
    if group.background is None:
        distance = compare_independent(ours, theirs).sum(-1)
        weight = theirs.sigmoid().amax(-1)
    else:
        p, q = torch.log_softmax(theirs, -1), torch.log_softmax(ours, -1)
        distance = (p.exp() * (p - q)).sum(-1)
        weight = 1 - p.exp().select(-1, group.background)
    objects = weight.sum().clamp_min(1)
    total = distance.sum() / objects
    for name in group.values:
        target = dense[name]
        error, size = (
            (weight.unsqueeze(-1) * v.square()).sum() for v in (found[name] - target, target)
        )
        total = total + error / size.clamp_min(1e-12)
    return total
