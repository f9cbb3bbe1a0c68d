"""Lagrangian relaxation by variable elimination: bound, incumbent, and what can be ruled out.

Nothing is enumerated here; what the relaxation leaves open stays open. ``auto`` goes on from it.
"""

from dataclasses import dataclass

import numpy as np

from ..model import Model
from ..outlook import look_out
from ..polish import polish
from ..reduction import reduce
from ..relaxation import Dual, Pool, minimize
from ..search import Search
from ..split import split_variables
from ..tree import BucketTree, TreeTooLarge

#: Rounds of relaxation and reduction; each works on what the one before left.
ROUNDS = 6


@dataclass(eq=False)
class Remainder:
    """What can still beat the incumbent, and its relaxation; the tree holds max-marginals.

    ``exact`` says that no variable was split: the tree's maxima belong to choices of the problem.
    """

    model: Model
    tree: BucketTree
    dual: Dual
    exact: bool


def solve_lagrangian(
    search: Search, tree: BucketTree | None = None, pool: Pool | None = None
) -> Remainder | None:
    """Relax, search and reduce, until a round no longer shrinks the problem by much.

    Args:
        search: The search to improve.
        tree: The bucket tree of the search's model, where there is one already.
        pool: What was met on that tree.

    Returns:
        What is left open, or None where the incumbent is proven or the problem infeasible.
    """
    model = search.model
    start: np.ndarray | None = None
    first = model.entries
    rounds = 0
    while True:
        rounds += 1
        if tree is None:
            tree, pool = build_bucket_tree(model, search), None
        dual = minimize(tree, search, start, pool)
        polish(search, model)
        if rounds == 1:
            search.multipliers = dual.multipliers
        if dual.bound == -np.inf:
            # Nothing that is left keeps the budgets: the incumbent, if any, is the best.
            search.tighten(search.value)
            return None
        search.tighten(max(dual.bound, search.value))
        if search.done:
            return None
        smaller = reduce(tree, look_out(tree, dual.multipliers[None, :], search), search.value)
        if smaller is None:
            search.tighten(search.value)
            return None
        search.report("reduction")
        if smaller.entries > 0.7 * model.entries or rounds == ROUNDS:
            search.notes.append(
                f"relaxation: {first:,} table entries, {smaller.entries:,} of them open after "
                "max-marginals"
            )
            exact = tree.model.split_from is None
            return Remainder(model if exact else smaller, tree, dual, exact)
        model, start, tree = smaller, dual.multipliers, None


def build_bucket_tree(model: Model, search: Search) -> BucketTree:
    """Build a model's bucket tree; where it would be too large, split variables and note it."""
    entries = search.entries_limit
    try:
        return BucketTree(model, entries, search.check)
    except TreeTooLarge as error:
        search.notes.append(f"{error}; variables are split, the bound is weaker")
    largest = max((f.value.size for f in model.factors), default=1)
    limit = max(entries // 4, largest)
    while True:
        search.check()
        relaxed = split_variables(model, limit)
        try:
            return BucketTree(relaxed, entries, search.check)
        except TreeTooLarge:
            if limit <= largest:
                # Not even the problem's own tables fit: their copies are no larger than they are.
                return BucketTree(relaxed, 1 << 62, search.check)
            limit = max(limit // 4, largest)
