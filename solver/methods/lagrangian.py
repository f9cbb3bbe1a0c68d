"""Lagrangian relaxation by variable elimination: bound, incumbent, and what can be ruled out.

Nothing is enumerated here; what the relaxation leaves open stays open. ``auto`` goes on from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..model import Model
from ..reduction import reduce
from ..relaxation import Dual, minimize
from ..search import Search
from ..tree import BucketTree

#: Rounds of relaxation and reduction; each works on what the one before left.
ROUNDS = 6


@dataclass(eq=False)
class Rest:
    """What can still beat the incumbent, and its relaxation; the tree holds max-marginals."""

    model: Model
    tree: BucketTree
    dual: Dual


def lagrangian(search: Search, entries_limit: int) -> Rest | None:
    """Bound, search and reduce, until a round no longer shrinks the problem by much.

    Returns:
        What is left open, or None where the incumbent is proven or the problem infeasible.
    """
    model = search.model
    start: np.ndarray | None = None
    first = model.entries
    for rounds in range(ROUNDS):
        tree = BucketTree(model, entries_limit, search.check)
        dual = minimize(tree, search, start)
        if rounds == 0:
            search.multipliers = dual.multipliers
        if dual.bound == -np.inf or dual.infeasible is not None:
            # Nothing that is left keeps the budgets: the incumbent, if any, is the best.
            search.tighten(search.value)
            return None
        search.tighten(max(dual.bound, search.value))
        if search.done:
            return None
        tree.forward(dual.multipliers)
        tree.backward()
        smaller = reduce(tree, dual.multipliers, search.value)
        if smaller is None:
            search.tighten(search.value)
            return None
        search.report("reduction")
        if smaller.entries > 0.7 * model.entries or rounds == ROUNDS - 1:
            break
        model, start = smaller, dual.multipliers
    search.notes.append(
        f"relaxation: {first:,} table entries, {smaller.entries:,} of them open after max-marginals"
    )
    return Rest(model, tree, dual)
