"""Makes profiles agree with the clock: the cells of a probe add up to its end-to-end time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .reading import Reading
from .spec import LayerSpec

_MOST_FELT = 2.0  # of the sentinel's drift


@dataclass(frozen=True)
class Sample:
    """One cell of one probe: what the table knows of ``spec`` at ``sizes``.

    latency_ms
        Reconciled: with its launches, without the profiler, at the machine's usual speed.
    reading
        Index of the probe among the table's readings.
    """

    spec: LayerSpec
    sizes: tuple[int, ...]
    latency_ms: float
    spread_ms: float
    runs: int
    reading: int


@dataclass(frozen=True)
class Reconciled:
    """samples, the constant ``overhead_ms`` of a network, and per reading its total.

    total_ms
        End to end, at the machine's usual speed: overhead plus the reading's samples.
    """

    samples: tuple[Sample, ...]
    overhead_ms: float
    total_ms: tuple[float, ...]


def reconcile(readings: Sequence[Reading], easing: float = 0.0) -> Reconciled:
    """Three corrections, each with its own cause.

    1. Drift: a probe is scaled by what the uncut network, timed in turn with it, took against its
       median over all probes of the network that the table is fitted to; smaller probes by less
       or by more, where there is an ``easing`` (``undrifted_ms``).
    2. Launches: the gap between end-to-end time and the sum of the kernels is what the runtime
       spends around each kernel, less what the profiler itself adds to each; its median over the
       probes, per kernel, goes to the cells that launch them, and one launch, if it is positive,
       is the network's constant overhead.
    3. The difference between two runs: what then remains, a factor near 1 for each probe.
    """
    usual = usual_ms(readings)
    totals = [undrifted_ms(r, usual[r.network], easing) for r in readings]
    speeds = [total / r.latency_ms for r, total in zip(readings, totals, strict=True)]
    gaps = [
        (total - reading.kernel_ms * speed) / (reading.kernels + 1)
        for total, reading, speed in zip(totals, readings, speeds, strict=True)
    ]
    launch = float(np.median(gaps)) if gaps else 0.0
    overhead = max(launch, 0.0)
    samples = []
    for index, (reading, total) in enumerate(zip(readings, totals, strict=True)):
        # No kernel may come out at nothing: launches are a median, kernels are not all alike.
        plain = [
            max(cell.kernel_ms + launch * cell.kernels, 0.2 * cell.kernel_ms)
            for cell in reading.cells
        ]
        factor = max(total - overhead, 0.0) / sum(plain) if sum(plain) > 0 else 0.0
        samples += [
            Sample(c.spec, c.sizes, factor * ms, factor * c.spread_ms, reading.runs, index)
            for c, ms in zip(reading.cells, plain, strict=True)
        ]
    return Reconciled(tuple(samples), overhead, tuple(totals))


def usual_ms(readings: Sequence[Reading]) -> dict[str, float]:
    """Network -> what it takes uncut at the machine's usual speed: the median of its sentinels.

    Checks, taken at another speed maybe, do not move it where there are probes.
    """
    taken: dict[str, list[Reading]] = {}
    for reading in readings:
        taken.setdefault(reading.network, []).append(reading)
    usual = {}
    for network, own in taken.items():
        probes = [r for r in own if r.role == "fit"] or own
        usual[network] = float(np.median([r.sentinel_ms for r in probes]))
    return usual


def undrifted_ms(reading: Reading, usual_ms: float, easing: float) -> float:
    """A reading's end-to-end time at the speed at which its uncut network takes ``usual_ms``.

    A machine's speed changes mostly with what its neighbours do to the caches and the memory that
    it shares with them. A small network may feel that less than the sentinel, which reads more, or
    more, where it would have had the caches to itself. easing: how much less, as the share of the
    sentinel's drift that is taken off with every e-folding of the size; negative: how much more.
    """
    felt = 1 + easing * float(np.log(reading.latency_ms / reading.sentinel_ms))
    drift = usual_ms / reading.sentinel_ms
    return reading.latency_ms * drift ** float(np.clip(felt, 0.0, _MOST_FELT))
