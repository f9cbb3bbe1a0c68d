"""What a job brought: laps and profiles as they were taken over there."""

from __future__ import annotations

import base64
import gzip
import io
import json
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..device import Device
from ..engines import Lap, Profile, Step, find_onnx_layers, find_operators
from ..errors import DamagedBundleError
from .runner.records import seal_record

MOST_BYTES = 1 << 28
"""What a result may hold unpacked; laps and profiles of a job take some megabytes."""


@dataclass(frozen=True)
class ForeignProfile:
    """A profile in an engine's own names.

    Attributes:
        steps: For each step its name, the text that tells what it was made of, and which neighbour
            it serves (``Step.towards``).
        ms: [runs, steps].
        laps: [runs], end to end.
    """

    steps: Sequence[tuple[str, str, int]]
    ms: NDArray[np.float64]
    laps: Sequence[Lap]

    def resolve(
        self, operators: Collection[str], find_outputs: Callable[[], Mapping[str, str]]
    ) -> Profile:
        """Find the operators of a network in the names.

        ``find_outputs`` maps outputs to operators; it is called where a name may be an output's.
        """
        sources = [find_onnx_layers(text) or (text,) for _, text, _ in self.steps]
        unclear = any(
            "/" not in text and not find_operators(text, operators)
            for own in sources
            for text in own
        )
        outputs = find_outputs() if unclear else {}
        steps = []
        for (name, _, towards), own in zip(self.steps, sources, strict=True):
            found = (find_operators(text, operators, outputs) for text in own)
            steps.append(
                Step(name, tuple(dict.fromkeys(o for each in found for o in each)), towards)
            )
        return Profile(steps, self.ms, self.laps)


@dataclass(frozen=True)
class BuildResult:
    """One build of a job's networks: laps by role, and the profile of the one asked about."""

    laps: Mapping[str, Sequence[Lap]]
    profile: ForeignProfile | None


@dataclass(frozen=True)
class JobResult:
    """The result of a job, on which device and when (ISO 8601), and how long it took."""

    key: str
    device: Device
    measured_at: str
    seconds: float
    builds: tuple[BuildResult, ...]


def decode_result(data: bytes, where: str) -> JobResult:
    """Decode a result's file.

    Raises:
        DamagedBundleError: It was edited or cut.
    """
    try:
        record = json.loads(_unpack(data))
        if record["seal"] != seal_record(record):
            raise ValueError("its seal does not match")
        return JobResult(
            record["key"], Device.from_json(record["device"]), record["measured_at"],
            float(record["seconds"]), tuple(map(_decode_build, record["builds"])),
        )  # fmt: skip
    except (
        OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, RecursionError,
        zlib.error,
    ) as error:  # fmt: skip
        raise DamagedBundleError(
            f"{where} was edited or cut ({error}): delete it over there and run the bundle again"
        ) from error


def _unpack(data: bytes) -> bytes:
    """Return what gzip packed; ValueError where a few bytes would fill the memory."""
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        text = stream.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise ValueError(f"it holds more than {MOST_BYTES} bytes")
    return text


def decode_line(text: str, where: str) -> JobResult:
    """Decode a result as the runner prints it."""
    return decode_result(decode_base64(text, where), f"a result from {where}")


def decode_base64(text: str, where: str) -> bytes:
    """Decode what was printed of a file.

    Raises:
        DamagedBundleError: It came cut.
    """
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise DamagedBundleError(f"a result from {where} came cut: run it again") from error


ENDING = ".json.gz"
"""Of the names of the runner's results."""


def read_results(
    folder: Path,
    ending: str = ENDING,
    decode: Callable[[bytes, str], JobResult] = decode_result,
) -> dict[str, JobResult]:
    """Read all results of a bundle by key.

    Args:
        folder: The bundle's.
        ending: Of the names of its results, in front of which the key stands.
        decode: Reads a result from its bytes and its file's name, for messages.

    Raises:
        DamagedBundleError: One was edited cut or renamed, or they are of several devices.
    """
    found: dict[str, JobResult] = {}
    first: tuple[str, JobResult] | None = None
    for path in sorted((folder / "results").glob(f"*{ending}")):
        result = decode(path.read_bytes(), str(path))
        if result.key != path.name.removesuffix(ending):
            raise DamagedBundleError(f"{path} is the result of {result.key}: it was renamed")
        if first is None:
            first = str(path), result
        elif result.device != first[1].device:
            raise DamagedBundleError(
                f"{folder} was run on two devices: {first[0]} is of {first[1].device}, {path} of "
                f"{result.device}. A bundle is run on one: keep the results of one of them"
            )
        found[result.key] = result
    return found


def _decode_build(own: Mapping[str, Any]) -> BuildResult:
    laps = {role: _decode_laps(rows) for role, rows in own["laps"].items()}
    profile = None
    if (given := own.get("profile")) is not None:
        steps = [(str(name), str(text), int(towards)) for name, text, towards in given["steps"]]
        ms = np.array(given["us"], dtype=np.float64).reshape(-1, len(steps)) / 1e3
        profile = ForeignProfile(steps, ms, _decode_laps(given["laps"]))
    return BuildResult(laps, profile)


def _decode_laps(rows: Sequence[Sequence[float]]) -> list[Lap]:
    return [Lap(wall / 1e3, cpu / 1e3) for wall, cpu in rows]
