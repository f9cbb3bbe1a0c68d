"""Several networks timed in turn, for claims such as "this one is twice as fast"."""

import hashlib
from collections.abc import Mapping

from ..devices import JobModel, RemoteEngine, make_comparison
from ..engines import Engine
from ..errors import LatencyError
from ..source import Probe
from ..timing import Timing, time_rounds
from .remote_runner import PACE


def compare(
    engine: Engine, probes: Mapping[str, Probe], rounds: int = 30, *, runs: int = 3
) -> dict[str, Timing]:
    """Time networks in turn in one process, so that whatever the machine does hits all alike.

    In each of ``rounds`` every network has at least ``runs`` timed runs, after untimed ones that
    bring back its caches.

    Returns:
        Name -> median with spread over all timed runs.
    """
    if rounds < 1 or runs < 1:
        raise LatencyError(f"rounds is {rounds} and runs is {runs}; give 1 or more of each")
    if isinstance(engine, RemoteEngine):
        return _compare_elsewhere(engine, probes, rounds, runs)
    threads = engine.device.threads
    sessions = {name: engine.build(probe) for name, probe in probes.items()}
    try:
        return time_rounds(sessions, threads, rounds, runs)
    finally:
        for session in sessions.values():
            session.close()


def _compare_elsewhere(
    engine: RemoteEngine, probes: Mapping[str, Probe], rounds: int, runs: int
) -> dict[str, Timing]:
    models = {}
    for role, probe in probes.items():
        digest = hashlib.sha256(probe.onnx()).hexdigest()[:16]
        models[role] = JobModel(digest, lambda probe=probe: probe)  # type: ignore[misc]
    asked = "-".join([*(own.name for own in models.values()), f"{rounds}x{runs}"])
    key = f"compare-{hashlib.sha256(asked.encode()).hexdigest()[:16]}"
    job = make_comparison(f"{key}-{engine.count(key)}", models, rounds, runs)
    batch = next(iter(probes.values())).batch
    (result,) = engine.run("", [job], PACE, batch)
    watch = engine.setting.threads == 1
    laps = result.builds[0].laps
    return {role: Timing.of(laps[role], watch) for role in probes}
