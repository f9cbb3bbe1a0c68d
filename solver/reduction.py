"""Ruling out options and table entries by max-marginals.

A max-marginal is the bound of the best completion through an entry (see
:meth:`~solver.tree.BucketTree.backward`). Where it does not exceed the incumbent, no better choice
passes through the entry, and the entry goes; likewise an option of which all entries went.
"""

from __future__ import annotations

import numpy as np

from .model import Model
from .search import EPSILON
from .tree import BucketTree


def reduce(tree: BucketTree, multipliers: np.ndarray, incumbent: float) -> Model | None:
    """What can still beat ``incumbent`` (scaled, constants included); None if nothing can.

    The tree must have had a forward pass at ``multipliers`` and a backward pass.
    """
    model = tree.model
    room = model.slack + model.tolerances
    floor = incumbent + EPSILON - model.constant_value - float(multipliers @ room)
    alive: list[np.ndarray] = [np.ones(n, dtype=bool) for n in model.sizes]
    masks: dict[tuple[int, ...], tuple[np.ndarray, tuple[int, ...]]] = {}
    for bucket in tree.buckets:
        mask = bucket.array > floor
        own = mask.any(axis=tuple(range(1, mask.ndim)))
        if not own.any():
            return None
        alive[bucket.variable] = own
        masks[bucket.scope] = (mask, bucket.scope)
    by_variable = {b.variable: b for b in tree.buckets}
    time = {b.variable: i for i, b in enumerate(tree.buckets)}
    values = []
    for factor in model.factors:
        first = min(factor.scope, key=time.__getitem__)
        bucket = by_variable[first]
        mask = masks[bucket.scope][0]
        away = tuple(i for i, v in enumerate(bucket.scope) if v not in factor.scope)
        if away:
            mask = mask.any(axis=away)
        inside = [v for v in bucket.scope if v in factor.scope]
        mask = mask.transpose([inside.index(v) for v in factor.scope])
        values.append(np.where(mask, factor.value, -np.inf))
    return model.restrict(alive, values)
