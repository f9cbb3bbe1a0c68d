"""What one measured probe yields: its end-to-end time and the time of each of its cells, raw."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .spec import LayerSpec

DRIFTED = 0.05  # beyond it, taking drift out leaves a guess: worth measuring again


@dataclass(frozen=True)
class CellReading:
    """A cell in a probe: kernel time as the profiler gave it, before reconciliation.

    kernels
        How many kernels the engine ran for it; 0 where it fused the cell into another one.
    """

    cell: str
    spec: LayerSpec
    sizes: tuple[int, ...]
    kernel_ms: float
    spread_ms: float
    kernels: int


@dataclass(frozen=True)
class Reading:
    """One probe as measured.

    network
        Digest of the network that it is a probe of (``network_digest``).
    sizes, dropped
        The Dims that differ from the uncut network, and the blocks that were dropped.
    role
        ``"fit"`` or ``"check"`` (a structure measured to verify a prediction).
    latency_ms, spread_ms, interval_ms, runs
        Median end-to-end time without the profiler, interquartile range, half width of the
        median's 95% interval, number of runs.
    sentinel_ms
        Median of the uncut network, timed in turn with this probe.
    disturbed
        Share of the runs in which something else had the processor.
    attempt
        0, or which re-measurement this is.
    seconds
        What measuring it took, all included.
    """

    network: str
    sizes: Mapping[str, int]
    dropped: tuple[str, ...]
    role: str
    latency_ms: float
    spread_ms: float
    interval_ms: float
    runs: int
    sentinel_ms: float
    disturbed: float
    attempt: int
    measured_at: str
    cells: tuple[CellReading, ...]
    seconds: float = 0.0

    def drift(self, usual_ms: float) -> float:
        """How far the uncut network, timed in turn, was off its usual time: relative, positive."""
        return abs(self.sentinel_ms / usual_ms - 1)

    @property
    def key(self) -> str:
        return structure_key(self.network, self.sizes, self.dropped)

    @property
    def kernel_ms(self) -> float:
        return sum(cell.kernel_ms for cell in self.cells)

    @property
    def kernels(self) -> int:
        return sum(cell.kernels for cell in self.cells)


def averaged(readings: Sequence[Reading]) -> Reading:
    """One structure, measured several times in the same way: the means, as one measurement."""
    last = readings[-1]

    def mean(values: Sequence[float]) -> float:
        return float(np.mean(values))

    cells = [
        replace(
            cell,
            kernel_ms=mean([r.cells[i].kernel_ms for r in readings]),
            spread_ms=mean([r.cells[i].spread_ms for r in readings]),
        )
        for i, cell in enumerate(last.cells)
    ]
    return replace(
        last,
        latency_ms=mean([r.latency_ms for r in readings]),
        spread_ms=mean([r.spread_ms for r in readings]),
        interval_ms=mean([r.interval_ms for r in readings]) / len(readings) ** 0.5,
        runs=sum(r.runs for r in readings),
        sentinel_ms=mean([r.sentinel_ms for r in readings]),
        disturbed=mean([r.disturbed for r in readings]),
        cells=tuple(cells),
        seconds=sum(r.seconds for r in readings),
    )


def structure_key(network: str, sizes: Mapping[str, int], dropped: Sequence[str]) -> str:
    """Equal for the same structure of the same network, whatever it was measured for."""
    text = json.dumps([network, sorted(sizes.items()), sorted(dropped)], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
