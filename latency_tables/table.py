"""The latency table: samples of layers on one device, and what they predict."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .device import Device
from .errors import LatencyError, MissingSpecError
from .fit import Curve, fit_curve
from .reading import Reading
from .reconcile import Reconciled, Sample, reconcile
from .spec import LayerSpec

Floats = NDArray[np.float64]

COUNTED = 0.2
_FOLDS = 5
_FLOOR_SHARE = 1e-3  # of the median probe: below it, a layer's own relative error is of no weight


@dataclass(frozen=True)
class TableError:
    """Relative error of predicted totals over probes that the prediction had not seen.

    median, p95, worst
        Of ``|predicted - measured| / measured``.
    probes
        How many probes it was taken over.
    """

    median: float
    p95: float
    worst: float
    probes: int

    def __str__(self) -> str:
        return (
            f"median {self.median:.1%}, 95th percentile {self.p95:.1%}, worst {self.worst:.1%} "
            f"over {self.probes} unseen structures"
        )


@dataclass(frozen=True)
class LatencyTable:
    """Layer latencies on one device, from probes measured in place.

    A network takes ``overhead_ms`` plus the sum of ``predict`` over its cells.

    error
        Over probes held out in turn (``held_out_error``); ``None`` where there are too few.
    notes
        What the reader should know of the measurement: drift, a busy machine.
    """

    device: Device
    readings: tuple[Reading, ...]
    error: TableError | None = None
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def _reconciled(self) -> Reconciled:
        return reconcile(self.readings)

    @cached_property
    def _by_spec(self) -> dict[LayerSpec, list[Sample]]:
        grouped: dict[LayerSpec, list[Sample]] = {}
        for sample in self._reconciled.samples:
            grouped.setdefault(sample.spec, []).append(sample)
        return grouped

    @cached_property
    def _totals(self) -> dict[str, float]:
        totals = self._reconciled.total_ms
        return {r.key: ms for r, ms in zip(self.readings, totals, strict=True)}

    @cached_property
    def _curves(self) -> dict[LayerSpec, Curve]:
        return {}

    @property
    def samples(self) -> tuple[Sample, ...]:
        """All samples, reconciled, in the order of measurement."""
        return self._reconciled.samples

    @property
    def specs(self) -> tuple[LayerSpec, ...]:
        """The specifications that the table can predict."""
        return tuple(self._by_spec)

    @property
    def overhead_ms(self) -> float:
        """What a network takes beyond the sum of its cells."""
        return self._reconciled.overhead_ms

    @property
    def interval_ms(self) -> Mapping[str, float]:
        """Structure key -> half width of the 95% interval of its median."""
        return {r.key: r.interval_ms for r in self.readings}

    def total_ms(self, reading: Reading) -> float:
        """A reading's end-to-end time at the machine's usual speed (drift taken out)."""
        return self._totals[reading.key]

    def predict(self, spec: LayerSpec, sizes: Any) -> Floats:
        """``sizes`` [n, k] (k widths in the order of ``spec.sizes``) to milliseconds [n].

        Raises ``MissingSpecError`` where the table has no sample of ``spec``.
        """
        wanted = np.asarray(sizes, dtype=np.float64)
        if wanted.ndim != 2 or wanted.shape[1] != len(spec.sizes):
            raise LatencyError(
                f"sizes has shape {list(wanted.shape)}; {spec} takes [n, {len(spec.sizes)}]: "
                f"{', '.join(spec.sizes)}"
            )
        if wanted.size and wanted.min() < 1:
            raise LatencyError(f"sizes holds {wanted.min():g}; a width is 1 or more")
        return self._curve(spec).predict(wanted)

    def predict_total(self, cells: Iterable[tuple[LayerSpec, Sequence[int]]]) -> float:
        """A network's latency in milliseconds, from its cells' specifications and widths."""
        grouped: dict[LayerSpec, list[Sequence[int]]] = {}
        for spec, sizes in cells:
            grouped.setdefault(spec, []).append(sizes)
        return self.overhead_ms + sum(
            float(self.predict(spec, rows).sum()) for spec, rows in grouped.items()
        )

    def add(self, readings: Iterable[Reading]) -> LatencyTable:
        """A table with more readings; ones of the same structure are replaced."""
        new = tuple(readings)
        keys = {r.key for r in new}
        kept = tuple(r for r in self.readings if r.key not in keys)
        return replace(self, readings=kept + new)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes ``latency.parquet`` and ``latency.json`` (``path``: that folder or that file)."""
        from .storage import save_table

        save_table(self, Path(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: Device | None = None) -> LatencyTable:
        """Reads a table back.

        device
            Where given, a table of another device is refused.

        Raises ``DamagedTableError`` (cut, edited, of another version), ``DeviceMismatchError``.
        """
        from .storage import load_table

        table = load_table(Path(path))
        if device is not None:
            device.check_same(table.device, str(path))
        return table

    def _curve(self, spec: LayerSpec) -> Curve:
        if spec not in self._curves:
            if spec not in self._by_spec:
                raise MissingSpecError(self._missing(spec))
            self._curves[spec] = self._fit(self._by_spec[spec])
        return self._curves[spec]

    def _fit(self, samples: Sequence[Sample]) -> Curve:
        sizes = np.array([s.sizes for s in samples], dtype=np.float64)
        ms = np.array([s.latency_ms for s in samples])
        floor = _FLOOR_SHARE * float(np.median(self._reconciled.total_ms))
        # A structure that was measured to be checked is where the answer lies: it counts most.
        noise = np.array(
            [0.1 if self.readings[s.reading].role == "check" else 1.0 for s in samples]
        )
        return fit_curve(sizes, ms, floor_ms=floor, noise=noise)

    def _missing(self, spec: LayerSpec) -> str:
        near = sorted(self._by_spec, key=lambda other: _distance(spec, other))[:3]
        known = "; ".join(str(other) for other in near) or "none: the table is empty"
        return (
            f"the latency table has no sample of {spec}. Nearest that it has: {known}. "
            "Measure the network that holds it on this device: msprune measure MODEL --out RUN"
        )


def _distance(wanted: LayerSpec, other: LayerSpec) -> tuple[int, int]:
    operator = (wanted.operator != other.operator) * 2 + (wanted.sizes != other.sizes)
    differing = len(set(wanted.attributes) ^ set(other.attributes))
    return operator, differing + (wanted.fused != other.fused)


def held_out_error(table: LatencyTable) -> TableError | None:
    """The error on structures that the fit has not seen, by holding each probe out once.

    The probes are held out a fifth at a time, and predicted from the other four fifths. Counted
    are those that take at least ``COUNTED`` of their uncut network; the table itself, which has
    seen them all, can only be better. ``None`` where there are too few.
    """
    relative = [
        abs(predicted - measured) / measured for predicted, measured in unseen_totals(table)
    ]
    if not relative:
        return None
    median, p95 = np.percentile(relative, [50, 95])
    return TableError(float(median), float(p95), float(max(relative)), len(relative))


def unseen_totals(table: LatencyTable) -> list[tuple[float, float]]:
    """(predicted, measured) milliseconds of the probes, each predicted without its fold."""
    uncut = {r.network: table.total_ms(r) for r in table.readings if not r.sizes and not r.dropped}
    cut = [r for r in table.readings if r.sizes or r.dropped]
    pairs = []
    for fold in range(min(_FOLDS, len(cut))):
        left = cut[fold::_FOLDS]
        keys = {r.key for r in left}
        seen = replace(table, readings=tuple(r for r in table.readings if r.key not in keys))
        for reading in left:
            cells = [(c.spec, c.sizes) for c in reading.cells]
            measured = table.total_ms(reading)
            if measured < COUNTED * uncut.get(reading.network, 0.0):
                continue
            if all(spec in seen._by_spec for spec, _ in cells):
                pairs.append((seen.predict_total(cells), measured))
    return pairs
