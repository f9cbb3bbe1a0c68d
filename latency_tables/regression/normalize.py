"""Profiles made to agree with the clock: a probe's cells add up to its end-to-end time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..spec import LayerSpec
from .reading import Reading
from .whole_probes import is_whole, split_totals

_MOST_FELT = 2.0  # of the reference run's drift


@dataclass(frozen=True)
class Sample:
    """One cell of one probe: what the table knows of ``spec`` at ``sizes``.

    Its latency is with its launches, without the profiler, at the machine's usual speed;
    ``reading`` is the index of the probe among the table's readings.
    """

    spec: LayerSpec
    sizes: tuple[int, ...]
    latency_ms: float
    spread_ms: float
    runs: int
    reading: int


@dataclass(frozen=True)
class NormalizedReadings:
    """Samples of cells that, with the overhead, add up to the totals of their probes.

    Totals are end to end, one a reading, at the machine's usual speed.
    """

    samples: tuple[Sample, ...]
    overhead_ms: float
    total_ms: tuple[float, ...]


def normalize_readings(
    readings: Sequence[Reading], drift_attenuation: float = 0.0
) -> NormalizedReadings:
    """Correct readings for three things, each with its own cause.

    1. Drift: a probe is scaled by what the uncut network, timed in turn with it, took against its
       median over all probes of the network that the table is fitted to; smaller probes by less
       or by more, where there is a ``drift_attenuation`` (``remove_drift``).
    2. Launches: the gap between end-to-end time and the sum of the kernels is what the runtime
       spends around each kernel, less what the profiler itself adds to each; its median over the
       probes, per kernel, goes to the cells that launch them, and one launch, if it is positive,
       is the network's constant overhead.
    3. The difference between two runs: what then remains, a factor near 1 for each probe.

    Of readings whose engine named no kernels the totals are split by regression (``split_totals``).
    """
    usual = find_usual_ms(readings)
    totals = [remove_drift(r, usual[r.network], drift_attenuation) for r in readings]
    speeds = [total / r.latency_ms for r, total in zip(readings, totals, strict=True)]
    whole = [index for index, reading in enumerate(readings) if is_whole(reading)]
    parts = split_totals([readings[i] for i in whole], [totals[i] for i in whole]) if whole else []
    split = dict(zip(whole, parts, strict=True))
    gaps = [
        (total - reading.kernel_ms * speed) / (reading.kernels + 1)
        for index, (total, reading, speed) in enumerate(zip(totals, readings, speeds, strict=True))
        if index not in split
    ]
    launch = float(np.median(gaps)) if gaps else 0.0
    overhead = max(launch, 0.0)
    samples = []
    for index, (reading, total) in enumerate(zip(readings, totals, strict=True)):
        # No kernel may come out at nothing: launches are a median, kernels are not all alike.
        plain = list(split.get(index, ())) or [
            max(cell.kernel_ms + launch * cell.kernels, 0.2 * cell.kernel_ms)
            for cell in reading.cells
        ]
        factor = max(total - overhead, 0.0) / sum(plain) if sum(plain) > 0 else 0.0
        samples += [
            Sample(c.spec, c.sizes, factor * ms, factor * c.spread_ms, reading.runs, index)
            for c, ms in zip(reading.cells, plain, strict=True)
        ]
    return NormalizedReadings(tuple(samples), overhead, tuple(totals))


def find_usual_ms(readings: Sequence[Reading]) -> dict[str, float]:
    """Find what each network takes uncut at the machine's usual speed, in milliseconds.

    The median of its reference runs; checks, taken at another speed maybe, do not move it where
    there are probes.
    """
    by_network: dict[str, list[Reading]] = {}
    for reading in readings:
        by_network.setdefault(reading.network, []).append(reading)
    usual = {}
    for network, own in by_network.items():
        probes = [r for r in own if r.role == "fit"] or own
        usual[network] = float(np.median([r.reference_ms for r in probes]))
    return usual


def remove_drift(reading: Reading, usual_ms: float, attenuation: float) -> float:
    """Scale a reading's total to the speed at which its uncut network takes ``usual_ms``.

    A machine's speed changes mostly with what its neighbours do to the caches and the memory that
    it shares with them. A small network may feel that less than the reference run, which reads
    more, or more, where it would have had the caches to itself.
    ``attenuation`` is how much less, as the share of the reference run's drift that is taken off
    with every e-folding of the size; negative: how much more.
    """
    felt = 1 + attenuation * float(np.log(reading.latency_ms / reading.reference_ms))
    drift = usual_ms / reading.reference_ms
    return reading.latency_ms * drift ** float(np.clip(felt, 0.0, _MOST_FELT))
