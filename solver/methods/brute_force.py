"""The oracle: every choice, one after the other."""

import itertools
import math

import numpy as np

from ..errors import MethodError
from ..search import Search

#: More choices than this are refused.
LIMIT = 5_000_000


def solve_brute_force(search: Search) -> None:
    """Evaluate every choice, and keep the first of the best.

    Raises:
        MethodError: More than :data:`LIMIT` choices.
    """
    problem = search.problem
    count = math.prod(problem.options.values())
    if count > LIMIT:
        raise MethodError(
            f"brute force would try {count:.3g} choices of {problem.name!r}, {LIMIT:,} are the "
            "limit; use method='auto'"
        )
    names = list(problem.options)
    units = search.model.units
    # Not the scaled model's arithmetic: an oracle shares as little as it can.
    tolerances = search.model.tolerances * units.cost_unit
    limits = {r: b + float(t) for (r, b), t in zip(search.budgets.items(), tolerances)}
    best = -math.inf
    ranges = [range(n) for n in problem.options.values()]
    for number, options in enumerate(itertools.product(*ranges)):
        if number % 256 == 0:
            search.check()
        value, cost = problem.evaluate(dict(zip(names, options)))
        if value > best and all(cost[r] <= limit for r, limit in limits.items()):
            best = value
            search.choice = np.array(options, dtype=np.int64)
            search.value = (value - units.value_offset) / units.value_unit
    search.tighten(search.value)
