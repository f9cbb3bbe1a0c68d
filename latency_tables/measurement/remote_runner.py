"""Probes measured elsewhere: requests go there as jobs, results come back as readings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from functools import cached_property

from ..device import Device
from ..devices import Job, JobModel, JobResult, Pace, RemoteEngine, make_probe_job
from ..engines import Engine, find_output_operators
from ..regression import Reading, structure_key
from ..source import Probe, ProbeSource
from ..timing import Timing, attribute_profile, find_told_share
from .probe_runner import (
    PROFILE_S,
    Build,
    LocalRunner,
    ProbeRequest,
    ProbeRunner,
    ReadingMaker,
)
from .time_budget import LONGEST_S, REPEAT_S, SHORTEST_S

PACE = Pace(REPEAT_S, SHORTEST_S, LONGEST_S, PROFILE_S)
# Of the kernels' time: below it cells get theirs from whole probes.
_LEAST_TOLD = 0.5


class RemoteRunner:
    """Measures probes of a network elsewhere, each next to a reference run: the uncut network.

    A probe is built ``builds`` times, as ``LocalRunner`` does.
    """

    def __init__(self, source: ProbeSource, engine: RemoteEngine, builds: int) -> None:
        self._source, self._engine, self._builds = source, engine, builds
        self._maker = ReadingMaker(source)
        self._batch = source.probe({}).batch
        self.name, self.network = source.name, self._maker.network

    @cached_property
    def device(self) -> Device:
        """The device and setting over there, at the network's batch."""
        return self._engine.device.at_batch(self._batch)

    def measure_all(self, requests: Iterable[ProbeRequest]) -> Iterator[Reading]:
        """Measure structures over there; all requests are asked for at once."""
        asked: dict[str, ProbeRequest] = {}
        jobs = []
        for request in requests:
            job = self.make_job(request)
            if job.key not in asked:
                asked[job.key] = request
                jobs.append(job)
        if not jobs:
            return
        campaign = self.network if all(own.role == "fit" for own in asked.values()) else ""
        for result in self._engine.run(campaign, jobs, PACE, self._batch):
            result.device.check_same(self.device, self._engine.where)
            yield self._read(asked[result.key], result)

    def make_job(self, request: ProbeRequest) -> Job:
        """Make the job of a request; its key is equal for what is the same in a later call."""
        structure = structure_key(self.network, self._maker.cut(request.sizes), request.dropped)
        repeat = request.repeat
        if request.role != "fit":
            repeat = self._engine.count(f"{request.role}-{structure}")
        limits: dict[str, float | None] = asdict(request.limits)
        if request.paced:
            limits["seconds"] = None
        return make_probe_job(
            f"{request.role}-{structure}-{repeat}",
            JobModel(structure, lambda: self._make_probe(request)),
            JobModel(f"uncut-{self.network}", lambda: self._source.probe({})),
            limits,
            self._builds,
        )

    def _make_probe(self, request: ProbeRequest) -> Probe:
        return self._source.probe(self._maker.cut(request.sizes), request.dropped)

    def _read(self, request: ProbeRequest, result: JobResult) -> Reading:
        probe = self._make_probe(request)
        work = self._maker.weigh(probe, request.dropped)
        watch, operators = self.device.threads == 1, frozenset(probe.cell_of)

        def find_outputs() -> dict[str, str]:
            return find_output_operators(self._engine.export_onnx(probe), operators)

        builds = []
        for own in result.builds:
            timings = {role: Timing.of(laps, watch) for role, laps in own.laps.items()}
            assert own.profile is not None
            profile = own.profile.resolve(operators, find_outputs)
            shares = attribute_profile(profile, probe.cell_of, watch, work)
            if find_told_share(profile, probe.cell_of) < _LEAST_TOLD:
                # The total is split by what all probes tell (``split_totals``).
                shares = {cell: replace(share, kernels=0) for cell, share in shares.items()}
            builds.append(Build(timings["probe"], timings["reference"].median_ms, shares))
        reading = self._maker.make(request, probe.sizes, builds)
        return replace(reading, measured_at=result.measured_at, seconds=result.seconds)


def make_runner(source: ProbeSource, engine: Engine, builds: int) -> ProbeRunner:
    """Make the runner of a network's probes on an engine, here or elsewhere."""
    if isinstance(engine, RemoteEngine):
        return RemoteRunner(source, engine, builds)
    return LocalRunner(source, engine, builds)
