"""Verifies a prediction on the device, and corrects the table around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .engine import Engine
from .measure import measure_structure
from .probing import batch_of
from .reading import DRIFTED, Reading, averaged
from .reconcile import usual_ms
from .source import ProbeSource
from .table import LatencyTable


@dataclass(frozen=True)
class Check:
    """A structure's measured and predicted latency.

    predicted_ms
        By the table as it was before; ``table`` has the new samples added.
    """

    measured_ms: float
    spread_ms: float
    predicted_ms: float
    table: LatencyTable

    @property
    def error(self) -> float:
        """Relative: positive where the device is slower than predicted."""
        return self.measured_ms / self.predicted_ms - 1


def check(
    table: LatencyTable,
    source: ProbeSource,
    engine: Engine,
    sizes: Mapping[str, int],
    dropped: Sequence[str] = (),
    *,
    quick: bool = False,
) -> Check:
    """Measures one structure and compares it with what the table says.

    Where the machine runs at another speed than the table's, by more than ``DRIFTED``, it is
    measured once more, and the calmer reading taken; where it is off by more than the table usually
    is, once more too, and the mean taken: what corrects the table should not be a noisy minute.

    Raises ``DeviceMismatchError`` where the table is another device's.
    """
    dense = source.probe({})
    engine.device.at_batch(batch_of(dense)).check_same(table.device, "the table")
    reading = measure_structure(source, engine, sizes, dropped, quick=quick)
    usual = usual_ms(table.readings).get(reading.network, reading.sentinel_ms)
    if reading.drift(usual) > DRIFTED and not quick:
        again = measure_structure(source, engine, sizes, dropped)
        reading = min(reading, again, key=lambda r: r.drift(usual))
    predicted = table.predict_total(((c.spec, c.sizes) for c in reading.cells), reading.network)
    found = _held_against(table, reading, predicted)
    if table.error is not None and abs(found.error) > table.error.p95 and not quick:
        again = measure_structure(source, engine, sizes, dropped)
        found = _held_against(table, averaged([reading, again]), predicted)
    return found


def _held_against(table: LatencyTable, reading: Reading, predicted_ms: float) -> Check:
    grown = table.add([reading])
    return Check(grown.total_ms(reading), reading.spread_ms, predicted_ms, grown)
