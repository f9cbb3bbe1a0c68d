"""How many of alike variables take their second option: sums to branch on, written as budgets.

Blocks of the same shape can hardly be told apart, so that a relaxation keeps, say, 4.9 of 12, and
fixing one of them only moves the fraction to another. Fixing how many does not.
"""

from dataclasses import replace

import numpy as np

from .model import Factor, Model, simplify

#: A count may exceed its limit by this: rounding of sums of whole numbers.
ROUNDING = 1e-9


def group_alike(model: Model) -> list[tuple[int, ...]]:
    """Return the groups of variables of two options whose tables have the same shapes.

    Groups have at least two members, given by their positions in the problem.
    """
    shapes: list[list[tuple[int, ...]]] = [[] for _ in model.sizes]
    for factor in model.factors:
        for v in factor.scope:
            shapes[v].append(tuple(sorted(factor.value.shape)))
    groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for v, size in enumerate(model.sizes):
        if size == 2:
            groups.setdefault(tuple(sorted(shapes[v])), []).append(model.variables[v])
    return [tuple(group) for group in groups.values() if len(group) > 1]


def limit_count(model: Model, group: tuple[int, ...], most: int, sign: int) -> Model:
    """Return the model with one more budget: ``sign`` times the count of ``group`` <= ``most``."""
    factors = [replace(f, cost=[*f.cost, None]) for f in model.factors]
    place = {p: v for v, p in enumerate(model.variables)}
    fixed = 0
    for p in group:
        if p in place:
            cost = sign * model.keep[place[p]].astype(float)
            none = [None] * len(model.budgets)
            factors.append(Factor((place[p],), np.zeros(len(cost)), [*none, cost]))
        else:
            fixed += sign * int(model.fixed[p])
    units = model.units
    return simplify(
        replace(
            model,
            factors=factors,
            budgets=np.append(model.budgets, float(most)),
            tolerances=np.append(model.tolerances, ROUNDING),
            constant_cost=np.append(model.constant_cost, float(fixed)),
            units=replace(
                units,
                resources=(*units.resources, f"count {len(model.budgets)}"),
                cost_unit=np.append(units.cost_unit, 1.0),
            ),
        )
    )
