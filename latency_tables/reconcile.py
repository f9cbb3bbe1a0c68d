"""Makes profiles agree with the clock: the cells of a probe add up to its end-to-end time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .reading import Reading
from .spec import LayerSpec


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


def reconcile(readings: Sequence[Reading]) -> Reconciled:
    """Three corrections, each with its own cause.

    1. Drift: a probe is scaled by what the sentinel, timed in turn with it, took against the
       sentinel's median over all probes of the network that the table is fitted to. That sentinel
       is one build, a percent or two off the network's usual time; structures that are checked
       later stand next to builds of their own, and are held against the uncut network's probe.
    2. Launches: the gap between end-to-end time and the sum of the kernels is what the runtime
       spends around each kernel, less what the profiler itself adds to each; its median over the
       probes, per kernel, goes to the cells that launch them, and one launch, if it is positive,
       is the network's constant overhead.
    3. The difference between two runs: what then remains, a factor near 1 for each probe.
    """
    usual = {network: _usual_ms(readings, network) for network in {r.network for r in readings}}
    speeds = [usual[r.network][r.role == "check"] / r.sentinel_ms for r in readings]
    totals = [r.latency_ms * speed for r, speed in zip(readings, speeds, strict=True)]
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


def _usual_ms(readings: Sequence[Reading], network: str) -> tuple[float, float]:
    """Of the sentinel that the probes have, and of those that checked structures have.

    Checks, taken at another speed maybe, move neither where there are probes.
    """
    own = [r for r in readings if r.network == network]
    fits = [r for r in own if r.role == "fit"] or own
    usual = float(np.median([r.sentinel_ms for r in fits]))
    uncut = [r for r in fits if not r.sizes and not r.dropped]
    return usual, uncut[0].latency_ms * usual / uncut[0].sentinel_ms if uncut else usual
