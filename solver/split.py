"""Copies of variables, where exact elimination would need too large tables.

A variable is replaced by copies, each seen by some of its tables, and the copies need not agree:
a relaxation, so every bound and max-marginal of the split model holds for the problem. This is
mini-bucket elimination (Dechter & Rish, *Mini-buckets*, J. ACM 50, 2003) written as a model, so
that one implementation of the elimination serves both.
"""

import dataclasses
import math

from .model import Factor, Model

#: What meets in a bucket: a scope, and the factors below it, of which it names variables.
_Message = tuple[frozenset[int], frozenset[int]]


def split_variables(model: Model, limit: int) -> Model:
    """Return a relaxation whose elimination makes no table of more than ``limit`` entries.

    A table of the problem that is larger by itself stays as it is.
    """
    scopes: list[dict[int, int]] = [{v: v for v in f.scope} for f in model.factors]
    sizes = list(model.sizes)
    origin = list(range(len(sizes)))
    messages: list[_Message] = [
        (frozenset(f.scope), frozenset([i])) for i, f in enumerate(model.factors)
    ]
    left = set(origin)
    while left:
        variable = min(left, key=lambda v: (_count_entries(sizes, _unite(messages, v)), v))
        left.remove(variable)
        mine = [m for m in messages if variable in m[0]]
        messages = [m for m in messages if variable not in m[0]]
        for number, (scope, below) in enumerate(_group(mine, sizes, limit)):
            if number:
                copy = len(sizes)
                sizes.append(sizes[variable])
                origin.append(origin[variable])
                for t in below:
                    for v, name in scopes[t].items():
                        if name == variable:
                            scopes[t][v] = copy
            rest = scope - {variable}
            if rest:
                messages.append((rest, below))
    factors = [
        Factor(tuple(names[v] for v in f.scope), f.value, f.cost)
        for f, names in zip(model.factors, scopes)
    ]
    return dataclasses.replace(
        model, sizes=tuple(sizes), factors=factors, split_from=model, origin=tuple(origin)
    )


def _group(messages: list[_Message], sizes: list[int], limit: int) -> list[_Message]:
    """Join messages first fit, the largest first, while their table stays within ``limit``."""
    groups: list[_Message] = []
    for scope, below in sorted(
        messages, key=lambda m: (-_count_entries(sizes, m[0]), sorted(m[0]))
    ):
        for g, (other, factors) in enumerate(groups):
            if _count_entries(sizes, scope | other) <= limit:
                groups[g] = (scope | other, factors | below)
                break
        else:
            groups.append((scope, below))
    return groups


def _unite(messages: list[_Message], variable: int) -> frozenset[int]:
    """Return the scope of the table that eliminating ``variable`` makes."""
    return frozenset([variable]).union(*(scope for scope, _ in messages if variable in scope))


def _count_entries(sizes: list[int], scope: frozenset[int]) -> int:
    return math.prod(sizes[v] for v in scope)
