"""The default: relaxation and reduction, exact search inside the gap, the rest as a MILP."""

from ..branching import branch, close_window
from ..relaxation import Pool
from ..search import EPSILON, Search
from ..tree import BucketTree
from .lagrangian import solve_lagrangian
from .milp import solve_remainder

#: Labels that an enumeration may hold before the problem is cut in two instead.
LABELS = 100_000


def solve_auto(search: Search, tree: BucketTree | None = None, pool: Pool | None = None) -> None:
    """Prove the optimum; arguments as in :func:`~solver.methods.lagrangian.solve_lagrangian`."""
    rest = solve_lagrangian(search, tree, pool)
    if rest is None or search.done:
        return
    if rest.exact:
        left = close_window(search, rest.tree, rest.dual, LABELS, top=True)
        if left <= search.value + EPSILON or search.done:
            return
        if branch(search, rest.model, rest.tree, rest.dual, LABELS):
            return
    solve_remainder(search, rest.model)
