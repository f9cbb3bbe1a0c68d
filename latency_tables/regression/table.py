"""The latency table: samples of layers on one device, and what they predict."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..device import Device
from ..errors import DamagedTableError, LatencyError
from ..former_names import accept_former_names
from ..source import ProbeSource, network_digest
from ..spec import LayerSpec
from .basis import Floats
from .calibration import IDENTITY, Calibration
from .curves import LayerCurves
from .normalize import NormalizedReadings, Sample, find_usual_ms, normalize_readings
from .reading import CellReading, Reading
from .storage import HINT, header_path, load_files, save_files

_ITERATIONS = 100


@dataclass(frozen=True)
class TableError:
    """Relative error, ``|predicted - measured| / measured``, over probes that were held out."""

    median: float
    p95: float
    worst: float
    probes: int

    def __str__(self) -> str:
        return (
            f"median {self.median:.1%}, 95th percentile {self.p95:.1%}, worst {self.worst:.1%} "
            f"over {self.probes} unseen structures"
        )


@accept_former_names(easing="drift_attenuation", contexts="calibrations")
@dataclass(frozen=True)
class LatencyTable:
    """Layer latencies on one device, from probes measured in place.

    A network takes ``overhead_ms`` plus the sum of ``predict`` over its cells, at a total that is
    this very sum, and from it what ``calibration(source).total_ms`` makes of it.

    Attributes:
        error: Over probes held out in turn (``cross_validate``); ``None`` where there are too few.
        drift_attenuation: How much less small networks feel of the machine's drift
            (``remove_drift``); negative: how much more.
        calibrations: Network digest -> how its latency follows from the sum of its cells.
        notes: What the reader should know of the measurement: drift, a busy machine.
        provenance: When, of which network and from which seed it was measured.
    """

    device: Device
    readings: tuple[Reading, ...]
    error: TableError | None = None
    drift_attenuation: float = 0.0
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def _normalized(self) -> NormalizedReadings:
        return normalize_readings(self.readings, self.drift_attenuation)

    @cached_property
    def _curves(self) -> LayerCurves:
        return LayerCurves(self._normalized)

    @cached_property
    def _totals(self) -> dict[str, float]:
        totals = self._normalized.total_ms
        return {r.key: ms for r, ms in zip(self.readings, totals, strict=True)}

    @property
    def samples(self) -> tuple[Sample, ...]:
        """All samples, normalized, in the order of measurement."""
        return self._normalized.samples

    @property
    def specs(self) -> tuple[LayerSpec, ...]:
        """The specifications that the table can predict."""
        return tuple(self._curves.by_spec)

    @property
    def overhead_ms(self) -> float:
        """What a network takes beyond the sum of its cells."""
        return self._normalized.overhead_ms

    @property
    def interval_ms(self) -> Mapping[str, float]:
        """Structure key -> half width of the 95% interval of its median."""
        return {r.key: r.interval_ms for r in self.readings}

    @property
    def created(self) -> str:
        """When, in ISO 8601; empty where it is not known."""
        return str(self.provenance.get("created", ""))

    def total_ms(self, reading: Reading) -> float:
        """Return a reading's end-to-end time at the machine's usual speed (drift taken out)."""
        return self._totals[reading.key]

    def knows(self, spec: LayerSpec) -> bool:
        """Tell whether ``predict`` can tell of this specification."""
        return self._curves.knows(spec)

    def predict(self, spec: LayerSpec, sizes: Any, network_ms: float | None = None) -> Floats:
        """Predict a layer's milliseconds [n].

        Args:
            spec: The layer.
            sizes: Widths [n, k], k in the order of ``spec.sizes``.
            network_ms: The total of the network that the layer is in (``None``: the median of
                those that were measured): in a larger one it is slower (``size_exponent``).

        Raises:
            MissingSpecError: The table has no sample of ``spec``.
            LatencyError: ``sizes`` or ``network_ms`` makes no sense.
        """
        widths = np.asarray(sizes, dtype=np.float64)
        if widths.ndim != 2 or widths.shape[1] != len(spec.sizes):
            raise LatencyError(
                f"sizes has shape {list(widths.shape)}; {spec} takes [n, {len(spec.sizes)}]: "
                f"{', '.join(spec.sizes)}"
            )
        if widths.size and widths.min() < 1:
            raise LatencyError(f"sizes holds {widths.min():g}; a width is 1 or more")
        if network_ms is not None and network_ms <= 0:
            raise LatencyError(f"network_ms is {network_ms:g}; give more than 0")
        return self._curves.predict(spec, widths, network_ms)

    def size_exponent(self, spec: LayerSpec) -> float:
        """Return ``e``: in a network of total ``T`` this layer takes ``T ** e`` times as long."""
        return self._curves.exponent(spec)

    sensitivity = size_exponent
    """The former name of `size_exponent`."""

    def predict_total(
        self, cells: Iterable[tuple[LayerSpec, Sequence[int]]], network: str = ""
    ) -> float:
        """Predict a network's latency in milliseconds.

        Args:
            cells: Its cells' specifications and widths.
            network: Its digest (``network_digest``): where the table has measured it, the total is
                that of its calibration; otherwise the plain sum.
        """
        grouped: dict[LayerSpec, list[Sequence[int]]] = {}
        for spec, sizes in cells:
            grouped.setdefault(spec, []).append(sizes)
        parts = np.array([float(self.predict(spec, rows).sum()) for spec, rows in grouped.items()])
        exponents = np.array([self.size_exponent(spec) for spec in grouped])
        typical = total = self._curves.typical_ms
        # Exponents are well below one: this contracts.
        for _ in range(_ITERATIONS):
            before = total
            total = self.overhead_ms + float((parts * (before / typical) ** exponents).sum())
            if abs(total - before) <= 1e-9 * before or total <= 0:
                break
        return self.calibrations.get(network, IDENTITY).total_ms(total)

    def uncut_ms(self, source: ProbeSource) -> float:
        """Return the uncut network's milliseconds: as measured where the table holds it."""
        network = network_digest(source)
        known = find_usual_ms(self.readings)
        if network in known:
            return known[network]
        cells = ((cell.spec, cell.dense_sizes) for cell in source.cells())
        return self.predict_total(cells, network)

    def calibration(self, source: ProbeSource) -> Calibration:
        """Return how this network's latency follows from the sum of its cells and overhead."""
        return self.calibrations.get(network_digest(source), IDENTITY)

    context = calibration
    """The former name of `calibration`."""

    def add(self, readings: Iterable[Reading]) -> LatencyTable:
        """Return a table with more readings; ones of the same structure are replaced.

        Checks among them correct the totals around them (``Calibration.checks``).
        """
        new = tuple(readings)
        keys = {r.key for r in new}
        kept = tuple(r for r in self.readings if r.key not in keys)
        return replace(self, readings=kept + new).with_checks()

    def with_checks(self) -> LatencyTable:
        """Return the table with its calibrations corrected by the structures that were checked."""
        plain = replace(self, calibrations={})
        checks: dict[str, list[tuple[float, float]]] = {}
        for reading in self.readings:
            if reading.role == "check":
                total = plain.predict_total((c.spec, c.sizes) for c in reading.cells)
                checks.setdefault(reading.network, []).append((total, self.total_ms(reading)))
        corrected = {
            network: replace(self.calibrations.get(network, IDENTITY), checks=tuple(pairs))
            for network, pairs in checks.items()
        }
        return replace(self, calibrations={**self.calibrations, **corrected})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``latency.parquet`` and ``latency.json`` (``path``: that folder or that file)."""
        cells = ((i, r, cell) for i, r in enumerate(self.readings) for cell in r.cells)
        rows = [
            {
                "spec": cell.spec.to_json(), "sizes": cell.sizes,
                "latency_ms": sample.latency_ms, "spread_ms": sample.spread_ms,
                "runs": reading.runs, "probe": index, "cell": cell.cell,
                "kernel_ms": cell.kernel_ms, "kernel_spread_ms": cell.spread_ms,
                "kernels": cell.kernels,
            }
            for (index, reading, cell), sample in zip(cells, self.samples, strict=True)
        ]  # fmt: skip
        header = {
            "device": self.device.to_json(),
            "error": asdict(self.error) if self.error else None,
            "easing": self.drift_attenuation,
            "contexts": {name: asdict(own) for name, own in self.calibrations.items()},
            "overhead_ms": self.overhead_ms,
            "notes": list(self.notes),
            "provenance": dict(self.provenance),
            "probes": [reading.to_json() for reading in self.readings],
        }
        save_files(Path(path), header, rows)

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: Device | None = None) -> LatencyTable:
        """Read a table back.

        Args:
            path: Its folder, or its ``.parquet`` file.
            device: Where given, a table of another device is refused.

        Raises:
            DamagedTableError: A file is missing, cut, edited, or of another version.
            DeviceMismatchError: It is another device's.
        """
        header, rows = load_files(Path(path))
        try:
            table = cls._decode(header, rows)
        except Exception as error:  # sealed by who wrote it, whoever that was
            raise DamagedTableError(
                f"{header_path(Path(path))} holds no table of this version "
                f"({type(error).__name__}: {error}). {HINT}"
            ) from error
        if device is not None:
            device.check_same(table.device, str(path))
        return table

    @classmethod
    def _decode(
        cls, header: Mapping[str, Any], rows: Sequence[Mapping[Hashable, Any]]
    ) -> LatencyTable:
        specs = {text: LayerSpec.from_json(text) for text in {row["spec"] for row in rows}}
        cells: list[list[CellReading]] = [[] for _ in header["probes"]]
        for row in rows:
            times = row["kernel_ms"], row["kernel_spread_ms"], row["kernels"]
            own = CellReading(row["cell"], specs[row["spec"]], tuple(row["sizes"].tolist()), *times)
            cells[row["probe"]].append(own)
        return cls(
            device=Device.from_json(header["device"]),
            readings=tuple(map(Reading.from_json, header["probes"], cells)),
            error=TableError(**header["error"]) if header["error"] else None,
            drift_attenuation=float(header["easing"]),
            calibrations={
                name: Calibration(own["factor"], tuple((s, m) for s, m in own["checks"]))
                for name, own in header.get("contexts", {}).items()
            },
            notes=tuple(header["notes"]),
            provenance=dict(header["provenance"]),
        )


def join_tables(tables: Sequence[LatencyTable]) -> LatencyTable:
    """Join tables into one of all readings; of the same structure the last one taken.

    Raises:
        DeviceMismatchError: Two are of different devices or settings.
    """
    first, *others = tables
    readings: dict[str, Reading] = {}
    calibrations: dict[str, Calibration] = {}
    for table in tables:
        table.device.check_same(first.device, "the first table")
        for reading in table.readings:
            known = readings.get(reading.key)
            if known is None or known.measured_at <= reading.measured_at:
                readings[reading.key] = reading
        calibrations.update(table.calibrations)
    notes = tuple(dict.fromkeys(note for table in tables for note in table.notes))
    return replace(
        first,
        readings=tuple(readings.values()),
        error=first.error if not others else None,
        drift_attenuation=max(tables, key=lambda own: len(own.readings)).drift_attenuation,
        calibrations=calibrations,
        notes=notes,
    )
