"""What a table knows of its own error, from probes held out in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .context import Context, fit_context
from .leastsquares import robust_least_squares
from .reading import Reading
from .reconcile import usual_ms
from .table import LatencyTable, TableError

COUNTED = 0.2
_FOLDS = 5
_STEADY = 0.01  # standard deviation of the sentinel: nothing to be eased
_MOST_EASING = 0.7  # in either direction
# Of a constant, a slope and the easing. The last is 0 until probes tell otherwise: 1e-2 is the
# square of their scatter, 2.5%, over that of the easing from one machine to another, 0.25.
_RIDGE = (1e-3, 1e-3, 1e-2)


@dataclass(frozen=True)
class Unseen:
    """A probe that was predicted without its fold. sum_ms: its cells and the overhead."""

    reading: Reading
    fold: int
    sum_ms: float
    measured_ms: float


def assessed(table: LatencyTable, network: str | None = None) -> LatencyTable:
    """The table with its easing, its error, and its networks' contexts; of one network if given.

    Every probe is held out once, a fifth of them at a time, and predicted from the other four
    fifths, the context too. Counted are those that take at least ``COUNTED`` of their uncut
    network; the table itself, which has seen them all, can only be better. The error is ``None``
    where there are too few.
    """
    plain = replace(table, contexts={})
    unseen = unseen_sums(plain, network)
    if _drifted(plain):
        plain = replace(plain, easing=_easing(plain, unseen))
        unseen = unseen_sums(plain, network)
    networks = {u.reading.network for u in unseen}
    contexts = {network: fit_context(_pairs(unseen, network)) for network in networks}
    relative = [abs(predicted / measured - 1) for predicted, measured in unseen_totals(unseen)]
    error = None
    if relative:
        median, p95 = np.percentile(relative, [50, 95])
        error = TableError(float(median), float(p95), float(max(relative)), len(relative))
    table = replace(plain, error=error, contexts={**table.contexts, **contexts})
    return table.with_checks()


def _drifted(table: LatencyTable) -> bool:
    """Whether the machine's speed has changed by so much that it can be told what it changed."""
    usual = usual_ms(table.readings)
    drift = [np.log(r.sentinel_ms / usual[r.network]) for r in table.readings]
    return float(np.std(drift)) > _STEADY


def _easing(table: LatencyTable, unseen: Sequence[Unseen]) -> float:
    """By how much the drift of small probes is to be taken off less (or more), so that they fit.

    Robust least squares: of what a held-out probe is off by, beside a constant and a slope, the
    part that goes with the drift of its sentinel times the logarithm of its size.
    """
    usual = usual_ms(table.readings)
    drift = np.array([np.log(usual[u.reading.network] / u.reading.sentinel_ms) for u in unseen])
    size = np.array([np.log(u.reading.latency_ms / u.reading.sentinel_ms) for u in unseen])
    raw = np.array([np.log(u.reading.latency_ms / u.sum_ms) for u in unseen])
    matrix = np.stack([np.ones_like(size), size, drift * size], axis=1)
    solution = robust_least_squares(matrix, -(raw + drift), ridge=_RIDGE)
    return float(np.clip(solution[2], -_MOST_EASING, _MOST_EASING))


def unseen_sums(table: LatencyTable, network: str | None = None) -> list[Unseen]:
    """The probes that count, each predicted without its fold.

    network
        Hold out this network's probes only: the others' are known when it is measured.
    """
    uncut = {r.network: table.total_ms(r) for r in table.readings if not r.sizes and not r.dropped}
    own = [r for r in table.readings if network in (None, r.network)]
    cut = [r for r in own if r.sizes or r.dropped]
    found = []
    for fold in range(min(_FOLDS, len(cut))):
        left = cut[fold::_FOLDS]
        keys = {r.key for r in left}
        seen = replace(table, readings=tuple(r for r in table.readings if r.key not in keys))
        for reading in left:
            cells = [(c.spec, c.sizes) for c in reading.cells]
            measured = table.total_ms(reading)
            if measured < COUNTED * uncut.get(reading.network, 0.0):
                continue
            if all(seen.knows(spec) for spec, _ in cells):
                found.append(Unseen(reading, fold, seen.predict_total(cells), measured))
    return found


def unseen_totals(unseen: Sequence[Unseen]) -> list[tuple[float, float]]:
    """(predicted, measured) milliseconds, each by a context that has not seen its fold either."""
    contexts: dict[tuple[str, int], Context] = {}
    pairs = []
    for probe in unseen:
        key = (probe.reading.network, probe.fold)
        if key not in contexts:
            contexts[key] = fit_context(_pairs([u for u in unseen if u.fold != probe.fold], key[0]))
        pairs.append((contexts[key].total_ms(probe.sum_ms), probe.measured_ms))
    return pairs


def _pairs(unseen: Sequence[Unseen], network: str) -> list[tuple[float, float]]:
    return [(u.sum_ms, u.measured_ms) for u in unseen if u.reading.network == network]
