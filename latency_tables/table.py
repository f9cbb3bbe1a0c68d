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

from .context import NO_CONTEXT, Context
from .device import Device
from .errors import LatencyError, MissingSpecError
from .fit import Curve, ScaledCurve, fit_curve
from .plan import network_digest
from .reading import Reading
from .reconcile import Reconciled, Sample, reconcile, usual_ms
from .sensitivity import Sensitivities, fit_sensitivities
from .source import ProbeSource
from .spec import LayerSpec

Floats = NDArray[np.float64]

_ITERATIONS = 100
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

    A network takes ``overhead_ms`` plus the sum of ``predict`` over its cells, at a total that is
    this very sum, and from it what ``context(source).total_ms`` makes of it.

    error
        Over probes held out in turn (``assessed``); ``None`` where there are too few.
    easing
        How much less small networks feel of the machine's drift (``undrifted_ms``); negative:
        how much more.
    contexts
        Network digest -> how its latency follows from the sum of its cells.
    notes
        What the reader should know of the measurement: drift, a busy machine.
    """

    device: Device
    readings: tuple[Reading, ...]
    error: TableError | None = None
    easing: float = 0.0
    contexts: Mapping[str, Context] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def _reconciled(self) -> Reconciled:
        return reconcile(self.readings, self.easing)

    @cached_property
    def _by_spec(self) -> dict[LayerSpec, list[Sample]]:
        grouped: dict[LayerSpec, list[Sample]] = {}
        for sample in self._reconciled.samples:
            grouped.setdefault(sample.spec, []).append(sample)
        return grouped

    @cached_property
    def _typical_ms(self) -> float:
        """The total of the network that the curves are for."""
        return float(np.median(self._reconciled.total_ms)) if self.readings else 1.0

    @property
    def _floor_ms(self) -> float:
        return _FLOOR_SHARE * self._typical_ms

    @cached_property
    def _sensitivities(self) -> Sensitivities:
        totals = np.array(self._reconciled.total_ms)
        return fit_sensitivities(
            {
                spec: (*_arrays(samples), totals[[s.reading for s in samples]])
                for spec, samples in self._by_spec.items()
            },
            floor_ms=self._floor_ms,
        )

    @cached_property
    def _totals(self) -> dict[str, float]:
        totals = self._reconciled.total_ms
        return {r.key: ms for r, ms in zip(self.readings, totals, strict=True)}

    @cached_property
    def _curves(self) -> dict[LayerSpec, Curve | ScaledCurve]:
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

    @property
    def created(self) -> str:
        """When, in ISO 8601; empty where it is not known."""
        return str(self.provenance.get("created", ""))

    def total_ms(self, reading: Reading) -> float:
        """A reading's end-to-end time at the machine's usual speed (drift taken out)."""
        return self._totals[reading.key]

    def predict(self, spec: LayerSpec, sizes: Any, network_ms: float | None = None) -> Floats:
        """``sizes`` [n, k] (k widths in the order of ``spec.sizes``) to milliseconds [n].

        network_ms
            The total of the network that the layer is in (``None``: the median of those that were
            measured): in a larger one it is slower (``Sensitivities``).

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
        if network_ms is not None and network_ms <= 0:
            raise LatencyError(f"network_ms is {network_ms:g}; give more than 0")
        size = 1.0 if network_ms is None else network_ms / self._typical_ms
        return self._curve(spec).predict(wanted) * size ** self.sensitivity(spec)

    def sensitivity(self, spec: LayerSpec) -> float:
        """In a network of total ``T`` this layer takes ``T ** sensitivity`` times as long."""
        # A layer that is read in part has the exponent of the plain one, as it has its curve.
        return self._sensitivities.of(spec.plain if spec.plain in self._by_spec else spec)

    def predict_total(
        self, cells: Iterable[tuple[LayerSpec, Sequence[int]]], network: str = ""
    ) -> float:
        """A network's latency in milliseconds, from its cells' specifications and widths.

        network
            Its digest (``network_digest``): where the table has measured it, the total is that of
            its context; otherwise the plain sum.
        """
        grouped: dict[LayerSpec, list[Sequence[int]]] = {}
        for spec, sizes in cells:
            grouped.setdefault(spec, []).append(sizes)
        parts = np.array([float(self.predict(spec, rows).sum()) for spec, rows in grouped.items()])
        exponents = np.array([self.sensitivity(spec) for spec in grouped])
        total = self._typical_ms
        # Exponents are well below one: this contracts.
        for _ in range(_ITERATIONS):
            before = total
            grown = parts * (before / self._typical_ms) ** exponents
            total = self.overhead_ms + float(grown.sum())
            if abs(total - before) <= 1e-9 * before or total <= 0:
                break
        return self.contexts.get(network, NO_CONTEXT).total_ms(total)

    def uncut_ms(self, source: ProbeSource) -> float:
        """The uncut network's latency in milliseconds: as measured where the table holds it."""
        network = network_digest(source)
        known = usual_ms(self.readings)
        if network in known:
            return known[network]
        cells = ((cell.spec, cell.dense_sizes) for cell in source.cells())
        return self.predict_total(cells, network)

    def context(self, source: ProbeSource) -> Context:
        """How this network's latency follows from the sum of its cells and the overhead."""
        return self.contexts.get(network_digest(source), NO_CONTEXT)

    def add(self, readings: Iterable[Reading]) -> LatencyTable:
        """A table with more readings; ones of the same structure are replaced.

        Checks among them correct the totals around them (``Context.checks``).
        """
        new = tuple(readings)
        keys = {r.key for r in new}
        kept = tuple(r for r in self.readings if r.key not in keys)
        return replace(self, readings=kept + new).with_checks()

    def with_checks(self) -> LatencyTable:
        """The table with its contexts corrected by the structures that were checked."""
        plain = replace(self, contexts={})
        checks: dict[str, list[tuple[float, float]]] = {}
        for reading in self.readings:
            if reading.role == "check":
                total = plain.predict_total((c.spec, c.sizes) for c in reading.cells)
                checks.setdefault(reading.network, []).append((total, self.total_ms(reading)))
        contexts = {
            network: replace(self.contexts.get(network, NO_CONTEXT), checks=tuple(pairs))
            for network, pairs in checks.items()
        }
        return replace(self, contexts={**self.contexts, **contexts})

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

    def knows(self, spec: LayerSpec) -> bool:
        """Whether ``predict`` can tell of this specification."""
        return spec in self._by_spec or spec.plain in self._by_spec

    def _curve(self, spec: LayerSpec) -> Curve | ScaledCurve:
        if spec not in self._curves:
            if not self.knows(spec):
                raise MissingSpecError(self._missing(spec))
            if spec.plain != spec and spec.plain in self._by_spec:
                own = self._by_spec.get(spec, [])
                self._curves[spec] = self._scaled(self._curve(spec.plain), own)
            else:
                self._curves[spec] = self._fit(self._by_spec[spec])
        return self._curves[spec]

    def _scaled(self, plain: Curve | ScaledCurve, samples: Sequence[Sample]) -> ScaledCurve:
        """Few probes have a layer whose result is read in part: one factor is all they tell."""
        if not samples:
            return ScaledCurve(plain, 1.0)
        sizes, _ = _arrays(samples)
        return ScaledCurve(plain, float(np.median(self._typical(samples) / plain.predict(sizes))))

    def _fit(self, samples: Sequence[Sample]) -> Curve:
        sizes, _ = _arrays(samples)
        return fit_curve(sizes, self._typical(samples), floor_ms=self._floor_ms)

    def _typical(self, samples: Sequence[Sample]) -> Floats:
        """What samples of one specification would take in a network of ``_typical_ms``."""
        totals = np.array([self._reconciled.total_ms[s.reading] for s in samples])
        _, ms = _arrays(samples)
        return ms * (totals / self._typical_ms) ** -self.sensitivity(samples[0].spec)

    def _missing(self, spec: LayerSpec) -> str:
        near = sorted(self._by_spec, key=lambda other: _distance(spec, other))[:3]
        known = "; ".join(str(other) for other in near) or "none: the table is empty"
        return (
            f"the latency table has no sample of {spec}. Nearest that it has: {known}. "
            "Measure the network that holds it on this device: msprune measure MODEL --out RUN"
        )


def _arrays(samples: Sequence[Sample]) -> tuple[Floats, Floats]:
    """Widths [n, k] and milliseconds [n]."""
    sizes = np.array([s.sizes for s in samples], dtype=np.float64)
    return sizes, np.array([s.latency_ms for s in samples])


def _distance(wanted: LayerSpec, other: LayerSpec) -> tuple[int, int]:
    operator = (wanted.operator != other.operator) * 2 + (wanted.sizes != other.sizes)
    differing = len(set(wanted.attributes) ^ set(other.attributes))
    return operator, differing + (wanted.fused != other.fused)


def joined(tables: Sequence[LatencyTable]) -> LatencyTable:
    """One table of all readings; of the same structure the last one taken.

    Raises ``DeviceMismatchError`` where two are of different devices or settings.
    """
    first, *others = tables
    readings: dict[str, Reading] = {}
    contexts: dict[str, Context] = {}
    for table in tables:
        table.device.check_same(first.device, "the first table")
        for reading in table.readings:
            known = readings.get(reading.key)
            if known is None or known.measured_at <= reading.measured_at:
                readings[reading.key] = reading
        contexts.update(table.contexts)
    notes = tuple(dict.fromkeys(note for table in tables for note in table.notes))
    return replace(
        first,
        readings=tuple(readings.values()),
        error=first.error if not others else None,
        easing=max(tables, key=lambda table: len(table.readings)).easing,
        contexts=contexts,
        notes=notes,
    )
