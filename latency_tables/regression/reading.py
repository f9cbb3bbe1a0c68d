"""The record of one measured probe: its end-to-end time and its cells' times, raw."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from ..former_names import accept_former_names
from ..spec import LayerSpec

DRIFTED = 0.05  # beyond it, taking drift out leaves a guess: worth measuring again
_STORED = {"reference_ms": "sentinel_ms"}  # field -> its name in files
_TIMES = (
    "latency_ms", "spread_ms", "interval_ms", "reference_ms", "disturbed", "seconds", "runs",
)  # fmt: skip


@dataclass(frozen=True)
class CellReading:
    """A cell in a probe: kernel time as the profiler gave it, before normalization.

    ``kernels``: how many the engine ran for it; 0 where it fused the cell into another one.
    """

    cell: str
    spec: LayerSpec
    sizes: tuple[int, ...]
    kernel_ms: float
    spread_ms: float
    kernels: int


@accept_former_names(sentinel_ms="reference_ms")
@dataclass(frozen=True)
class Reading:
    """One probe as measured.

    Attributes:
        network: Digest of the network that it is a probe of (``network_digest``).
        sizes: The Dims that differ from the uncut network.
        dropped: The blocks that were dropped.
        role: ``"fit"`` or ``"check"`` (a structure measured to verify a prediction).
        latency_ms: Median end-to-end time without the profiler.
        spread_ms: Interquartile range.
        interval_ms: Half width of the median's 95% interval.
        reference_ms: Median of the uncut network, timed in turn with this probe.
        disturbed: Share of the runs in which something else had the processor.
        attempt: 0, or which re-measurement this is.
        measured_at: When, in ISO 8601.
        seconds: What measuring it took, all included.
    """

    network: str
    sizes: Mapping[str, int]
    dropped: tuple[str, ...]
    role: str
    latency_ms: float
    spread_ms: float
    interval_ms: float
    runs: int
    reference_ms: float
    disturbed: float
    attempt: int
    measured_at: str
    cells: tuple[CellReading, ...]
    seconds: float = 0.0

    def drift(self, usual_ms: float) -> float:
        """Compute how far the reference run was off its usual time: relative, positive."""
        return abs(self.reference_ms / usual_ms - 1)

    @property
    def key(self) -> str:
        """Equal for readings of the same structure (``structure_key``)."""
        return structure_key(self.network, self.sizes, self.dropped)

    @property
    def kernel_ms(self) -> float:
        """The sum over the cells."""
        return sum(cell.kernel_ms for cell in self.cells)

    @property
    def kernels(self) -> int:
        """How many kernels the engine ran for all cells."""
        return sum(cell.kernels for cell in self.cells)

    def to_json(self) -> dict[str, Any]:
        """Encode all but the cells as plain values, by the names that files have."""
        row = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "cells"}
        row |= {"sizes": dict(self.sizes), "dropped": list(self.dropped)}
        return {_STORED.get(name, name): value for name, value in row.items()}

    @classmethod
    def from_json(cls, row: Mapping[str, Any], cells: Sequence[CellReading]) -> Reading:
        """Decode what ``to_json`` gave; raise ``ValueError`` where a time is no finite number."""
        made = cls(**{**row, "dropped": tuple(row["dropped"]), "cells": tuple(cells)})
        times = [getattr(made, name) for name in _TIMES]
        times += [ms for cell in cells for ms in (cell.kernel_ms, cell.spread_ms)]
        if not all(isinstance(ms, int | float) and math.isfinite(ms) for ms in times):
            raise ValueError(f"the reading taken {made.measured_at} holds what is no time")
        return made


def average_readings(readings: Sequence[Reading]) -> Reading:
    """Average measurements of one structure, taken in the same way, into one."""

    def average(records: Sequence[Any], *names: str) -> dict[str, Any]:
        return {name: float(np.mean([getattr(r, name) for r in records])) for name in names}

    cells = [
        replace(own[-1], **average(own, "kernel_ms", "spread_ms"))
        for own in zip(*(reading.cells for reading in readings), strict=True)
    ]
    means = average(readings, "latency_ms", "spread_ms", "interval_ms", "reference_ms", "disturbed")
    means["interval_ms"] /= len(readings) ** 0.5
    sums: dict[str, Any] = {
        "runs": sum(r.runs for r in readings),
        "seconds": sum(r.seconds for r in readings),
    }
    return replace(readings[-1], cells=tuple(cells), **means, **sums)


def structure_key(network: str, sizes: Mapping[str, int], dropped: Sequence[str]) -> str:
    """Hash a structure of a network: equal whatever it was measured for."""
    text = json.dumps([network, sorted(sizes.items()), sorted(dropped)], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
