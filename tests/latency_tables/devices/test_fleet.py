"""Fleets: jobs are shared, a device that dies or differs is left out by name, nothing is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

import latency_tables
from latency_tables import CarrierError, Device, FleetEngine
from latency_tables.devices.job import Job, JobModel, Pace, make_probe_job
from latency_tables.devices.remote import RemoteEngine
from latency_tables.devices.result import BuildResult, ForeignProfile, JobResult
from latency_tables.engines import Lap

from ..fakes import DEVICE
from .chain import ChainSource, expected_ms
from .places import SETTING


@dataclass
class Simulated:
    """What a simulated device does: its speed, how long a job really takes, when it dies."""

    speed: float = 1.0
    sleep: float = 0.0
    dies_after: int | None = None
    device: Device = replace(DEVICE, engine="onnxruntime")
    done: list[str] = field(default_factory=list)


class SimulatedEngine(RemoteEngine):
    """A device without a carrier: results by formula, a sleep instead of the measurement."""

    def __init__(self, where: str, facts: Simulated) -> None:
        super().__init__(where, SETTING)
        self.facts, self.lock = facts, threading.Lock()

    @property
    def device(self) -> Device:
        if self.facts.dies_after == 0:
            raise CarrierError(f"the connection to {self.where} failed")
        return self.facts.device

    def run(
        self, campaign: str, jobs: Sequence[Job], pace: Pace, batch: int
    ) -> Iterator[JobResult]:
        assert self.lock.acquire(blocking=False), "two at a time on one device"
        try:
            for job in jobs:
                if len(self.facts.done) == self.facts.dies_after:
                    raise CarrierError(f"the connection to {self.where} failed")
                time.sleep(self.facts.sleep)
                self.facts.done.append(job.key)
                yield self.answer(job)
        finally:
            self.lock.release()

    def answer(self, job: Job) -> JobResult:
        laps, profile = {}, None
        for role, model in job.models.items():
            probe = model.make()
            ms = self.facts.speed * len(probe.onnx()) / 1e5
            laps[role] = [Lap(ms, ms)] * 12
            if role == "probe":
                steps = [(f"{cell}/mm", f"{cell}/mm", -1) for cell in probe.cell_of]
                profile = ForeignProfile(
                    steps, np.full((12, len(steps)), ms / (len(steps) + 1)), laps[role]
                )
        build = BuildResult(laps, profile)
        return JobResult(job.key, self.facts.device, "2026-01-01T00:00:00+00:00", 1.0, (build,))


def make(**facts: Simulated) -> FleetEngine:
    return FleetEngine("fleet.yaml", [SimulatedEngine(f"ssh:{k}", v) for k, v in facts.items()])


def measure(fleet: FleetEngine, probes: int = 12) -> latency_tables.LatencyTable:
    return latency_tables.measure(ChainSource(), fleet, probes=probes)


def test_three_measure_at_least_twice_as_fast_as_one() -> None:
    """Simulated by sleeps: here are too few cores for three that compute."""
    source, pace = ChainSource(), Pace(4.5, 0.9, 2.5, 0.6)
    model = JobModel("m", lambda: source.probe({}))
    jobs = [make_probe_job(f"fit-{i}", model, model, {}, 1) for i in range(18)]
    seconds = {}
    for count in (1, 3):
        devices = {f"d{i}": Simulated(sleep=0.2) for i in range(count)}
        began = time.monotonic()
        found = list(make(**devices).run("network", jobs, pace, 1))
        seconds[count] = time.monotonic() - began
        done = [key for own in devices.values() for key in own.done]
        assert sorted(done) == sorted(r.key for r in found) == sorted(job.key for job in jobs)
    assert seconds[1] >= 2 * seconds[3]


@pytest.mark.parametrize("dies_after", [0, 1, 5])
def test_the_death_of_one_is_survived(dies_after: int) -> None:
    fleet = make(a=Simulated(sleep=0.005), b=Simulated(sleep=0.005, dies_after=dies_after),
                 c=Simulated(sleep=0.005))  # fmt: skip
    table = measure(fleet)
    assert len(table.readings) == 12
    assert all(r.latency_ms > 0 for r in table.readings)
    assert list(fleet.left_out) == ["ssh:b"] and "failed" in fleet.left_out["ssh:b"]
    sizes = {"d1": 24}
    checked = latency_tables.check(table, ChainSource(), fleet, sizes)
    assert checked.measured_ms > 0


def test_when_all_die_it_is_said_of_each() -> None:
    fleet = make(a=Simulated(dies_after=3), b=Simulated(dies_after=2))
    with pytest.raises(CarrierError, match="no device of fleet.yaml is left: ssh:.: .*; ssh:.:"):
        measure(fleet)


def test_one_that_is_lost_once_all_is_measured_is_left_out() -> None:
    class Lost(SimulatedEngine):
        def finish(self, campaign: str) -> None:
            raise CarrierError(f"the connection to {self.where} failed")

    members = [Lost("ssh:a", Simulated()), SimulatedEngine("ssh:b", Simulated())]
    fleet = FleetEngine("fleet.yaml", members)
    assert len(measure(fleet).readings) == 12
    assert list(fleet.left_out) == ["ssh:a"]


@pytest.mark.filterwarnings("error")
def test_when_all_die_at_once_it_is_said_of_each() -> None:
    class Dead(SimulatedEngine):
        def answer(self, job: Job) -> JobResult:
            raise CarrierError("it is dead")

    fleet = FleetEngine("f", [Dead("ssh:a", Simulated()), Dead("ssh:b", Simulated())])
    with pytest.raises(CarrierError, match="no device of f is left: ssh:.: it is dead; ssh:.:"):
        measure(fleet)


def test_one_whose_reference_is_odd_is_left_out_and_its_readings_with_it() -> None:
    slow = Simulated(speed=1.2)
    fleet = make(a=Simulated(), b=slow, c=Simulated(speed=1.01))
    table = measure(fleet)
    assert "% off the fleet's median" in fleet.left_out["ssh:b"] and len(slow.done) == 1
    usual = expected_ms(ChainSource(), {})
    assert len(table.readings) == 12 and usual > 0
    references = [r.reference_ms for r in table.readings]
    assert max(references) / min(references) < 1.02


def test_another_device_is_left_out_by_what_differs() -> None:
    other = replace(DEVICE, engine="onnxruntime", power="governor powersave")
    fleet = make(a=Simulated(), b=Simulated(device=other))
    assert len(measure(fleet).readings) == 12
    assert fleet.left_out == {
        "ssh:b": "it is another device: power is 'governor powersave', not ''"
    }


def test_an_error_of_another_kind_is_raised_where_results_are_read() -> None:
    class Broken(SimulatedEngine):
        def answer(self, job: Job) -> JobResult:
            raise latency_tables.EngineError("refused")

    fleet = FleetEngine("f", [Broken("ssh:a", Simulated()), Broken("ssh:b", Simulated())])
    with pytest.raises(latency_tables.EngineError, match="refused"):
        measure(fleet)
