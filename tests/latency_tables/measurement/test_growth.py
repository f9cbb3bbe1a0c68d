"""How many probes a device elsewhere is asked for: as many as the held-out error wants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest

import latency_tables
from latency_tables import LatencyTable, TableError
from latency_tables.devices.job import Job
from latency_tables.devices.result import BuildResult, ForeignProfile, JobResult
from latency_tables.engines import Lap
from latency_tables.measurement.growth import STAGES, describe_growth, describe_regression, is_good

from ..devices.chain import ChainSource
from ..devices.test_fleet import Simulated, SimulatedEngine
from ..fakes import DEVICE


@dataclass
class Noisy(Simulated):
    """``noise``: by how much a structure is off the formula, at random, relative."""

    noise: float = 0.0


class NoisyEngine(SimulatedEngine):
    """Layers take what their widths say, and a network what its layers do, but for the noise."""

    def answer(self, job: Job) -> JobResult:
        probe, reference = job.models["probe"].make(), job.models["reference"].make()
        cells = {name: list_cell_ms(own.sizes) for name, own in (("p", probe), ("r", reference))}
        seed = int(job.models["probe"].name, 16) % 2**32
        factor = 1 + self.facts.noise * float(np.random.default_rng(seed).standard_normal())
        laps = {
            "probe": [Lap(factor * sum(cells["p"]), factor * sum(cells["p"]))] * 12,
            "reference": [Lap(sum(cells["r"]), sum(cells["r"]))] * 12,
        }
        steps = [(f"{cell}/mm", f"{cell}/mm", -1) for cell in probe.cell_of]
        profile = ForeignProfile(steps, np.array([cells["p"]] * 12), laps["probe"])
        build = BuildResult(laps, profile)
        return JobResult(job.key, self.facts.device, "2026-01-01T00:00:00+00:00", 1.0, (build,))


def list_cell_ms(sizes: Mapping[str, tuple[int, ...]]) -> list[float]:
    return [0.1 + 1e-4 * width * height for width, height in sizes.values()]


def measure(noise: float) -> LatencyTable:
    engine = NoisyEngine("ssh:a", Noisy(noise=noise))
    return latency_tables.measure(ChainSource(), engine)


def test_it_stops_once_the_held_out_error_is_small_enough() -> None:
    table = measure(0.0)
    assert len(table.readings) == STAGES[0] and is_good(table.error)
    (note,) = [note for note in table.notes if "probes, as" in note]
    assert note.startswith("20 probes, as the error is small enough; 10 more (--probes 30, ")


def test_it_ends_at_the_most_probes_and_says_what_more_would_bring() -> None:
    table = measure(0.1)
    assert len(table.readings) == STAGES[-1] and not is_good(table.error)
    (note,) = [note for note in table.notes if "probes, as" in note]
    assert "50 probes, as that is the most; 10 more (--probes 60, " in note
    assert table.error is not None
    best = table.error.p95 * (50 / 60) ** 0.5
    assert note.endswith(f"would bring the 95th percentile to {best:.1%} at best")
    # A probe is measured twice, and the simulated device says that this takes a second each.
    assert "0.3 minutes of the device" in note


def test_probes_that_are_asked_for_are_as_many() -> None:
    engine = NoisyEngine("ssh:a", Noisy(noise=0.1))
    assert len(latency_tables.measure(ChainSource(), engine, probes=23).readings) == 23


@pytest.mark.parametrize(
    ("median", "p95", "good"),
    [(0.02, 0.05, True), (0.021, 0.03, False), (0.01, 0.051, False)],
)
def test_good_is_two_percent_in_the_median_and_five_at_the_95th_percentile(
    median: float, p95: float, good: bool
) -> None:
    error = TableError(median, p95, 0.2, 19)
    assert is_good(error) is good and not is_good(None)
    assert str(error) in describe_regression(error)


def test_a_table_without_an_error_says_so() -> None:
    assert "too few" in describe_growth(LatencyTable(DEVICE, ()), 3)
    assert "too few" in describe_regression(None)
