"""Elimination orders: which variable goes next (Dechter 1999)."""

import heapq
import math
from collections.abc import Sequence


def order_elimination(
    sizes: Sequence[int], scopes: Sequence[Sequence[int]]
) -> tuple[list[int], list[tuple[int, ...]]]:
    """Order the variables greedily by the smallest table that their elimination makes.

    Args:
        sizes: Options of every variable [n].
        scopes: The factors' scopes.

    Returns:
        The order, and for every step the variables that the eliminated one is joined with then
        (its separator).
    """
    neighbours: list[set[int]] = [set() for _ in sizes]
    for scope in scopes:
        for v in scope:
            neighbours[v].update(scope)
    for v, around in enumerate(neighbours):
        around.discard(v)
    logs = [math.log(n) for n in sizes]
    weight = [logs[v] + sum(logs[u] for u in neighbours[v]) for v in range(len(sizes))]
    heap = [(w, v) for v, w in enumerate(weight)]
    heapq.heapify(heap)
    order: list[int] = []
    separators: list[tuple[int, ...]] = []
    gone = [False] * len(sizes)
    while heap:
        w, v = heapq.heappop(heap)
        if gone[v] or w != weight[v]:
            continue
        gone[v] = True
        around = neighbours[v]
        order.append(v)
        separators.append(tuple(around))
        for u in around:
            neighbours[u] |= around
            neighbours[u] -= {u, v}
        for u in around:
            new = logs[u] + sum(sorted(logs[x] for x in neighbours[u]))
            if new != weight[u]:
                weight[u] = new
                heapq.heappush(heap, (new, u))
    return order, separators
