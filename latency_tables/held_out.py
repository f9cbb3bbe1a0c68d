"""What a table knows of its own error, from probes held out in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .context import Context, fit_context
from .reading import Reading
from .table import LatencyTable, TableError

COUNTED = 0.2
_FOLDS = 5


@dataclass(frozen=True)
class Unseen:
    """A probe that was predicted without its fold. sum_ms: its cells and the overhead."""

    reading: Reading
    fold: int
    sum_ms: float
    measured_ms: float


def assessed(table: LatencyTable, network: str | None = None) -> LatencyTable:
    """The table with its error and its networks' contexts; those of one network where given.

    Every probe is held out once, a fifth of them at a time, and predicted from the other four
    fifths, the context too. Counted are those that take at least ``COUNTED`` of their uncut
    network; the table itself, which has seen them all, can only be better. The error is ``None``
    where there are too few.
    """
    plain = replace(table, contexts={})
    unseen = unseen_sums(plain, network)
    reference = _references(plain, network)
    contexts = {
        network: fit_context(_pairs(unseen, network), reference[network]) for network in reference
    }
    relative = [
        abs(predicted / measured - 1) for predicted, measured in unseen_totals(unseen, reference)
    ]
    error = None
    if relative:
        median, p95 = np.percentile(relative, [50, 95])
        error = TableError(float(median), float(p95), float(max(relative)), len(relative))
    return replace(table, error=error, contexts={**table.contexts, **contexts}).with_checks()


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


def unseen_totals(
    unseen: Sequence[Unseen], reference_ms: Mapping[str, float]
) -> list[tuple[float, float]]:
    """(predicted, measured) milliseconds, each by a context that has not seen its fold either."""
    contexts: dict[tuple[str, int], Context] = {}
    pairs = []
    for probe in unseen:
        key = (probe.reading.network, probe.fold)
        if key not in contexts:
            others = [u for u in unseen if u.fold != probe.fold]
            contexts[key] = fit_context(_pairs(others, key[0]), reference_ms.get(key[0], 0.0))
        pairs.append((contexts[key].total_ms(probe.sum_ms), probe.measured_ms))
    return pairs


def _pairs(unseen: Sequence[Unseen], network: str) -> list[tuple[float, float]]:
    return [(u.sum_ms, u.measured_ms) for u in unseen if u.reading.network == network]


def _references(table: LatencyTable, network: str | None = None) -> dict[str, float]:
    """Network -> the sum of its uncut cells, where that was measured."""
    return {
        r.network: table.predict_total((c.spec, c.sizes) for c in r.cells)
        for r in table.readings
        if not r.sizes and not r.dropped and network in (None, r.network)
    }
