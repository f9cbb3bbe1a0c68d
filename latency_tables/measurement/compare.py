"""Several networks timed in turn, for claims such as "this one is twice as fast"."""

from collections.abc import Mapping

from ..engines import Engine
from ..errors import LatencyError
from ..source import Probe
from ..timing import Clock, Timing


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
    threads = engine.device.threads
    sessions = {name: engine.build(probe) for name, probe in probes.items()}
    try:
        clocks = {name: Clock(session, threads) for name, session in sessions.items()}
        for session in sessions.values():
            session.run()
        for _ in range(rounds):
            for clock in clocks.values():
                clock.burst(runs)
        return {name: clock.timing for name, clock in clocks.items()}
    finally:
        for session in sessions.values():
            session.close()
