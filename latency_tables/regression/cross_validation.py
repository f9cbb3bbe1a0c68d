"""What a table knows of its own error, from probes held out in turn."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .calibration import Calibration, fit_calibration
from .huber import solve_robustly
from .normalize import find_usual_ms
from .reading import Reading
from .table import LatencyTable, TableError

LEAST_SHARE = 0.2  # of its uncut network's latency that a probe takes for its error to count
_FOLDS = 5
_STEADY = 0.01  # standard deviation of the reference run below which there is no drift
_MOST_ATTENUATION = 0.7  # in either direction
# Of a constant, a slope and the attenuation. The last is 0 until probes tell otherwise: 1e-2 is
# the square of their scatter, 2.5%, over that of the attenuation between machines, 0.25.
_RIDGE = (1e-3, 1e-3, 1e-2)


@dataclass(frozen=True)
class HeldOutProbe:
    """A probe that was predicted without its fold: ``sum_ms`` is its cells and the overhead."""

    reading: Reading
    fold: int
    sum_ms: float
    measured_ms: float


def cross_validate(table: LatencyTable, network: str | None = None) -> LatencyTable:
    """Return the table with its drift attenuation, its error, and its networks' calibrations.

    Every probe is held out once, a fifth of them at a time, and predicted from the other four
    fifths, the calibration too. Counted are those that take at least ``LEAST_SHARE`` of their uncut
    network; the table itself, which has seen them all, can only be better. The error is ``None``
    where there are too few. ``network``: as for ``predict_held_out``.
    """
    plain = replace(table, calibrations={})
    probes = predict_held_out(plain, network)
    if _has_drifted(plain):
        plain = replace(plain, drift_attenuation=_fit_attenuation(plain, probes))
        probes = predict_held_out(plain, network)
    networks = {probe.reading.network for probe in probes}
    calibrations = {network: _calibrate(probes, network) for network in networks}
    relative = [abs(predicted / measured - 1) for predicted, measured in predict_totals(probes)]
    error = None
    if relative:
        median, p95 = np.percentile(relative, [50, 95])
        error = TableError(float(median), float(p95), float(max(relative)), len(relative))
    table = replace(plain, error=error, calibrations={**table.calibrations, **calibrations})
    return table.with_checks()


def _has_drifted(table: LatencyTable) -> bool:
    """Tell whether the machine's speed changed by so much that its effect can be estimated."""
    usual = find_usual_ms(table.readings)
    drift = [np.log(r.reference_ms / usual[r.network]) for r in table.readings]
    return float(np.std(drift)) > _STEADY


def _fit_attenuation(table: LatencyTable, probes: Sequence[HeldOutProbe]) -> float:
    """Estimate by how much less (or more) drift is to be taken off small probes for them to fit.

    Robust least squares: of what a held-out probe is off by, less a constant and a slope, the part
    that goes with the drift of its reference run times the logarithm of its size.
    """
    usual = find_usual_ms(table.readings)
    readings = [probe.reading for probe in probes]
    drift = np.array([np.log(usual[r.network] / r.reference_ms) for r in readings])
    size = np.array([np.log(r.latency_ms / r.reference_ms) for r in readings])
    raw = np.array([np.log(probe.reading.latency_ms / probe.sum_ms) for probe in probes])
    matrix = np.stack([np.ones_like(size), size, drift * size], axis=1)
    solution = solve_robustly(matrix, -(raw + drift), ridge=_RIDGE)
    return float(np.clip(solution[2], -_MOST_ATTENUATION, _MOST_ATTENUATION))


def predict_held_out(table: LatencyTable, network: str | None = None) -> list[HeldOutProbe]:
    """Predict the probes that count, each without its fold.

    With a ``network`` only its probes are held out: the others' are known when it is measured.
    """
    uncut = {r.network: table.total_ms(r) for r in table.readings if not r.sizes and not r.dropped}
    own = [r for r in table.readings if network in (None, r.network)]
    cut = [r for r in own if r.sizes or r.dropped]
    found = []
    for fold in range(min(_FOLDS, len(cut))):
        test = cut[fold::_FOLDS]
        keys = {r.key for r in test}
        trained = replace(table, readings=tuple(r for r in table.readings if r.key not in keys))
        for reading in test:
            cells = [(c.spec, c.sizes) for c in reading.cells]
            measured = table.total_ms(reading)
            if measured < LEAST_SHARE * uncut.get(reading.network, 0.0):
                continue
            if all(trained.knows(spec) for spec, _ in cells):
                total = trained.predict_total(cells)
                found.append(HeldOutProbe(reading, fold, total, measured))
    return found


def predict_unseen(table: LatencyTable, network: str | None = None) -> list[tuple[float, float]]:
    """Return (predicted, measured) ms of every structure, predicted by those of other folds alone.

    These are the pairs that ``LatencyTable.error`` sums up. ``network``: as for
    ``predict_held_out``.
    """
    plain = replace(table, calibrations={})
    return predict_totals(predict_held_out(plain, network))


def predict_totals(probes: Sequence[HeldOutProbe]) -> list[tuple[float, float]]:
    """Pair predicted and measured ms, each by a calibration that has not seen its fold either."""
    known: dict[tuple[str, int], Calibration] = {}
    pairs = []
    for probe in probes:
        key = (probe.reading.network, probe.fold)
        if key not in known:
            known[key] = _calibrate([p for p in probes if p.fold != probe.fold], key[0])
        pairs.append((known[key].total_ms(probe.sum_ms), probe.measured_ms))
    return pairs


def _calibrate(probes: Sequence[HeldOutProbe], network: str) -> Calibration:
    own = [p for p in probes if p.reading.network == network]
    return fit_calibration([(p.sum_ms, p.measured_ms) for p in own])
