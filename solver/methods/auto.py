"""The default: relaxation and reduction, enumeration inside the gap, the rest as a MILP."""

from __future__ import annotations

from ..labels import TooManyLabels, enumerate_window
from ..relaxation import Pool
from ..search import EPSILON, Search
from ..tree import BucketTree
from .lagrangian import Rest, lagrangian

#: Labels that the enumeration may hold at once; each takes about 60 bytes, more while joining.
LABELS = 1_500_000


def auto(
    search: Search,
    entries_limit: int,
    tree: BucketTree | None = None,
    pool: Pool | None = None,
) -> None:
    """Prove the optimum; arguments as in :func:`~solver.methods.lagrangian.lagrangian`."""
    rest = lagrangian(search, entries_limit, tree, pool)
    if rest is None or search.done:
        return
    if rest.exact and widen(search, rest):
        return
    from .milp import milp_rest

    milp_rest(search, rest.model)


def widen(search: Search, rest: Rest) -> bool:
    """Enumerate windows below the bound, each wider than the last, until the optimum is in one.

    A narrow window costs little and, when empty, is itself a proof of a smaller bound. Returns
    whether the search is done; if not, its bound and incumbent may still have improved.
    """
    bound = rest.dual.bound
    # No loss against the relaxation can exceed this: values and costs are scaled to ranges of 1.
    everything = 4.0 * (1.0 + float(rest.dual.multipliers.sum()))
    width = 1e-5
    if search.choice is not None:
        everything = min(everything, bound - search.value)
        width = everything / 64
    while True:
        width = everything if width > 0.5 * everything else width
        threshold = bound - width
        try:
            choice = enumerate_window(
                rest.tree, rest.dual.multipliers, threshold + EPSILON, search, LABELS
            )
        except TooManyLabels:
            search.notes.append(
                f"enumeration: more than {LABELS:,} partial choices within "
                f"{width / everything:.2g} of the gap"
            )
            return False
        if choice is not None:
            search.offer(rest.model, choice)
        if width < everything:
            search.tighten(max(threshold, search.value))
        else:
            search.tighten(search.value)
        search.report("enumeration")
        if search.done or search.value >= threshold:
            return search.done
        width *= 4
