"""The reduction of a model by max-marginals, which rule out options and table entries.

A max-marginal is the bound of the best completion through an entry (see
:meth:`~solver.tree.BucketTree.backward`). Where it does not exceed the incumbent, no better choice
passes through the entry, and the entry goes; likewise an option of which all entries went.
"""

import numpy as np

from .model import Model
from .outlook import Outlook
from .search import EPSILON
from .tree import BucketTree


def reduce(tree: BucketTree, outlook: Outlook, incumbent: float) -> Model | None:
    """Return what can still beat ``incumbent`` (scaled, constants included); None if nothing can.

    The outlook is of the tree, and of an incumbent that was no better.
    """
    model = tree.model
    floor = incumbent + EPSILON
    whole = model.split_from or model
    origin = model.origin or tuple(range(len(model.sizes)))
    alive: list[np.ndarray] = [np.ones(n, dtype=bool) for n in whole.sizes]
    masks: dict[int, np.ndarray] = {}
    buckets = [b for b in tree.buckets if b.variable >= 0]
    for bucket in buckets:
        tree.check()
        view = outlook.views[id(bucket)]
        mask = np.zeros(bucket.array.shape, dtype=bool)
        mask.ravel()[view.entries[(view.bound > floor).all(axis=0)]] = True
        own = np.asarray(mask.any(axis=tuple(range(1, mask.ndim))))
        alive[origin[bucket.variable]] &= own  # an option lives where all its copies do
        if not alive[origin[bucket.variable]].any():
            return None
        masks[bucket.variable] = mask
    by_variable = {b.variable: b for b in buckets}
    time = {b.variable: i for i, b in enumerate(buckets)}
    values = []
    for factor in model.factors:
        tree.check()
        first = min(factor.scope, key=time.__getitem__)
        bucket = by_variable[first]
        mask = masks[first]
        away = tuple(i for i, v in enumerate(bucket.scope) if v not in factor.scope)
        if away:
            mask = np.asarray(mask.any(axis=away))
        inside = [v for v in bucket.scope if v in factor.scope]
        mask = mask.transpose([inside.index(v) for v in factor.scope])
        values.append(np.where(mask, factor.value, -np.inf))
    return whole.restrict(alive, values)
