"""Splitting variables where exact elimination would need too large tables.

A variable is replaced by copies, each seen by some of its tables, and the copies need not agree:
a relaxation, so every bound and max-marginal of the split model holds for the problem. This is
mini-bucket elimination (Dechter & Rish, *Mini-buckets*, J. ACM 50, 2003) written as a model, so
that one implementation of the elimination serves both.
"""

from __future__ import annotations

import dataclasses
import math

from .model import Factor, Model


def split(model: Model, limit: int) -> Model:
    """A relaxation of ``model`` whose elimination makes no table of more than ``limit`` entries.

    A table of the problem that is larger by itself stays as it is.
    """
    scopes: list[dict[int, int]] = [{v: v for v in f.scope} for f in model.factors]
    sizes = list(model.sizes)
    origin = list(range(len(sizes)))
    # What meets in a bucket: a scope, and the tables below it whose scopes name its variables.
    items: list[tuple[frozenset[int], frozenset[int]]] = [
        (frozenset(f.scope), frozenset([i])) for i, f in enumerate(model.factors)
    ]
    left = set(origin)
    while left:
        variable = min(left, key=lambda v: (_size(sizes, _union(items, v)), v))
        left.remove(variable)
        mine = [item for item in items if variable in item[0]]
        items = [item for item in items if variable not in item[0]]
        groups: list[tuple[frozenset[int], frozenset[int]]] = []
        for scope, below in sorted(mine, key=lambda i: (-_size(sizes, i[0]), sorted(i[0]))):
            for g, (other, tables) in enumerate(groups):
                if _size(sizes, scope | other) <= limit:
                    groups[g] = (scope | other, tables | below)
                    break
            else:
                groups.append((scope, below))
        for number, (scope, tables) in enumerate(groups):
            if number:
                copy = len(sizes)
                sizes.append(sizes[variable])
                origin.append(origin[variable])
                for t in tables:
                    for v, name in scopes[t].items():
                        if name == variable:
                            scopes[t][v] = copy
            rest = scope - {variable}
            if rest:
                items.append((rest, tables))
    factors = [
        Factor(tuple(names[v] for v in f.scope), f.value, f.cost)
        for f, names in zip(model.factors, scopes)
    ]
    return dataclasses.replace(
        model,
        sizes=tuple(sizes),
        factors=factors,
        split_from=model,
        origin=tuple(origin),
    )


def _union(items: list[tuple[frozenset[int], frozenset[int]]], variable: int) -> frozenset[int]:
    scopes = [scope for scope, _ in items if variable in scope]
    return frozenset([variable]).union(*scopes)


def _size(sizes: list[int], scope: frozenset[int]) -> int:
    return math.prod(sizes[v] for v in scope)
