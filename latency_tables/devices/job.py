"""What is asked of a device elsewhere: jobs, in a setting, at a pace."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..source import Probe


@dataclass(frozen=True)
class Setting:
    """How an engine is set up over there; ``batch`` is the first axis of the first input."""

    engine: str
    threads: int
    precision: str
    batch: int = 1

    def to_json(self) -> dict[str, Any]:
        """Encode as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Pace:
    """How a bundle's time is shared among its jobs, in seconds.

    Attributes:
        each_s: What a repeat of a probe takes on average, all included.
        shortest_s: The least that a probe is timed.
        longest_s: The most.
        profile_s: How long a probe runs with the profiler on.
        rest_s: How long a device that is throttled rests.
    """

    each_s: float
    shortest_s: float
    longest_s: float
    profile_s: float
    rest_s: float = 15.0


@dataclass(frozen=True)
class JobModel:
    """A network of a job: equal names, equal networks."""

    name: str
    make: Callable[[], Probe]


@dataclass(frozen=True)
class Job:
    """One thing to be timed over there.

    Attributes:
        key: Names its result, in a file's name: equal for what need not be measured twice.
        models: Role in the job -> network.
        request: What is done with them, as the runner reads it: ``target``, ``limits`` and
            ``builds`` of a probe; ``rounds``, ``runs`` and ``builds`` of a comparison.
    """

    key: str
    models: Mapping[str, JobModel]
    request: Mapping[str, Any]


def make_probe_job(
    key: str,
    probe: JobModel,
    reference: JobModel,
    limits: Mapping[str, float | None],
    builds: int,
) -> Job:
    """Make the job of a probe, timed in turn with a reference and profiled at every build.

    ``limits`` are those of ``timing.Limits``; without ``seconds`` it gets its share of the pace.
    """
    request = {"target": "probe", "limits": dict(limits), "builds": builds}
    return Job(key, {"probe": probe, "reference": reference}, request)


def make_comparison(key: str, models: Mapping[str, JobModel], rounds: int, runs: int) -> Job:
    """Make the job of several networks timed in turn, ``runs`` of each in each of ``rounds``."""
    return Job(key, models, {"rounds": rounds, "runs": runs, "builds": 1})
