"""A prediction verified on the device, and the table corrected around it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..engines import Engine
from ..regression import DRIFTED, LatencyTable, Reading, average_readings, find_usual_ms
from ..source import ProbeSource
from .measure import measure_structure


@dataclass(frozen=True)
class Check:
    """A structure's measured latency, what was predicted, and the table with both."""

    measured_ms: float
    spread_ms: float
    predicted_ms: float
    table: LatencyTable

    @property
    def error(self) -> float:
        """The relative error, positive where the device is slower than predicted."""
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
    """Measure one structure and compare it with what the table says.

    Where the machine runs at another speed than the table's, by more than ``DRIFTED``, it is
    measured once more, and the calmer reading taken; where it is off by more than the table usually
    is, once more too, and the mean taken: what corrects the table should not be a noisy minute.

    Raises:
        DeviceMismatchError: The table is another device's.
    """
    engine.device.at_batch(source.probe({}).batch).check_same(table.device, "the table")
    reading = measure_structure(source, engine, sizes, dropped, quick=quick)
    usual = find_usual_ms(table.readings).get(reading.network, reading.reference_ms)
    if reading.drift(usual) > DRIFTED and not quick:
        again = measure_structure(source, engine, sizes, dropped)
        reading = min(reading, again, key=lambda r: r.drift(usual))
    predicted = table.predict_total(((c.spec, c.sizes) for c in reading.cells), reading.network)
    found = _correct(table, reading, predicted)
    if table.error is not None and abs(found.error) > table.error.p95 and not quick:
        again = measure_structure(source, engine, sizes, dropped)
        found = _correct(table, average_readings([reading, again]), predicted)
    return found


def _correct(table: LatencyTable, reading: Reading, predicted_ms: float) -> Check:
    grown = table.add([reading])
    return Check(grown.total_ms(reading), reading.spread_ms, predicted_ms, grown)
