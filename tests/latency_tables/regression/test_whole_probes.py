"""Where an engine names no layers, their times follow from whole probes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from latency_tables import CellReading, LatencyTable, LayerSpec, Reading
from latency_tables.regression import cross_validate
from latency_tables.regression.whole_probes import is_whole, split_totals
from latency_tables.timing import estimate_work

from ..fakes import DEVICE

SPECS = [
    LayerSpec("conv2d", ("in_channels", "out_channels"), (("map", (size, size)),))
    for size in (56, 28, 14, 7)
]
RATES = (1e-7, 2e-7, 4e-7, 3e-7)  # milliseconds a unit of work: each kind has its own


def probe(widths: tuple[int, ...]) -> Reading:
    cells = [
        CellReading(f"c{i}", spec, (widths[i], widths[i + 1]), 1.0, 0.0, 0)
        for i, spec in enumerate(SPECS)
    ]
    total = sum(
        rate * estimate_work(cell.spec, cell.sizes) for rate, cell in zip(RATES, cells, strict=True)
    )
    sizes = {f"d{i}": width for i, width in enumerate(widths)}
    return Reading("net", sizes, (), "fit", total, 0.0, 0.0, 9, 5.0, 0.0, 0, "", tuple(cells))


@pytest.fixture
def readings() -> list[Reading]:
    random = np.random.default_rng(0)
    return [probe(tuple(random.choice(range(16, 257, 8), 5).tolist())) for _ in range(30)]


def test_totals_are_split_as_the_formula_says(readings: list[Reading]) -> None:
    totals = [reading.latency_ms for reading in readings]
    for reading, parts in zip(readings, split_totals(readings, totals), strict=True):
        assert sum(parts) == pytest.approx(reading.latency_ms)
        for cell, rate, part in zip(reading.cells, RATES, parts, strict=True):
            truth = rate * estimate_work(cell.spec, cell.sizes)
            assert part == pytest.approx(truth, rel=0.1, abs=0.02 * reading.latency_ms)


def test_such_a_table_predicts_and_states_its_error_as_any(readings: list[Reading]) -> None:
    uncut = replace(probe((256,) * 5), sizes={})
    table = cross_validate(LatencyTable(DEVICE, (uncut, *readings)))
    assert table.error is not None and table.error.median < 0.05
    unseen = probe((64, 128, 40, 200, 96))
    found = table.predict_total((c.spec, c.sizes) for c in unseen.cells)
    assert found == pytest.approx(unseen.latency_ms, rel=0.06)


def test_one_kernel_that_is_known_makes_a_reading_a_profile(readings: list[Reading]) -> None:
    assert is_whole(readings[0])
    first, *others = readings[0].cells
    assert not is_whole(replace(readings[0], cells=(replace(first, kernels=1), *others)))
