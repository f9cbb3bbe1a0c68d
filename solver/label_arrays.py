"""Labels as arrays: partial choices of a subtree with values, costs and bounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .search import EPSILON

#: Values and costs in labels are multiples of this, so that sums do not depend on their order and
#: equal parts in another order are equal labels. Scaled sums of order one are exact then.
QUANTUM = 2.0**-48


@dataclass(eq=False)
class Labels:
    """Labels of one bucket's subtree, grouped by separator entry (a flat index).

    ``starts`` [separator entries + 1] delimits the groups. ``loss`` [K, n] is what a label's bound
    lies below that of its separator entry, ``pick`` [separator entries] the multipliers at which
    a group is sorted by it. ``key`` is group * span + loss at these, so that one binary search
    finds how many of a group are affordable. ``entry`` is the bucket's own flat entry, ``steps``
    and ``origin`` lead back to the children.
    """

    starts: np.ndarray
    value: np.ndarray
    cost: np.ndarray
    loss: np.ndarray
    pick: np.ndarray
    key: np.ndarray
    span: float
    entry: np.ndarray
    steps: list[tuple[np.ndarray, np.ndarray]]
    origin: np.ndarray


@dataclass(eq=False)
class PartialLabels:
    """Labels of a bucket while its children are being joined.

    ``config`` is the index of the bucket's own entry, ``bound`` [K, n] that of the completions at
    each multipliers, ``least`` [n] the smallest bound known. ``parent`` and ``partner`` tell which
    label before the last join, and which of the child's, each was made of.
    """

    config: np.ndarray
    value: np.ndarray
    cost: np.ndarray
    bound: np.ndarray
    least: np.ndarray
    parent: np.ndarray
    partner: np.ndarray

    def take(self, index: np.ndarray) -> PartialLabels:
        """Return the labels at these indices."""
        return PartialLabels(*(a[..., index] for a in vars(self).values()))


def count_partners(labels: Labels, group: np.ndarray, afford: np.ndarray) -> np.ndarray:
    """Return how many labels of its group every label may take that can lose ``afford``."""
    # A label that can lose s before its bound falls to the floor takes partners of loss < s; the
    # small excess covers rounding in the composite key and is checked again by the join.
    query = group * labels.span + np.clip(afford, -EPSILON, 0.5 * labels.span)
    last = np.searchsorted(labels.key, query * (1 + 1e-13) + EPSILON, side="right")
    last = np.minimum(last, labels.starts[group + 1])
    return np.maximum(last - labels.starts[group], 0)


def quantize(array: np.ndarray) -> np.ndarray:
    """Round to multiples of the quantum."""
    return np.rint(array / QUANTUM) * QUANTUM


def ravel_groups(index: list[np.ndarray], shape: tuple[int, ...], count: int) -> np.ndarray:
    """Return flat indices [count]; an array of no axes has one entry."""
    if not shape:
        return np.zeros(count, dtype=np.int64)
    return np.ravel_multi_index(tuple(index), shape)
