"""What a vendor's tool left of a job, in the archive that the script made of it."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..engines import Lap
from ..errors import DamagedBundleError, EngineError
from .job import Setting
from .result import BuildResult, ForeignProfile, JobResult, read_results
from .tool_output import ToolTimes
from .tools import TOOLS, describe_tool_device, list_files, read_facts

ARCHIVE = ".tar.gz"
_SUMS = "SHA256SUMS"


def decode_archive(
    data: bytes, where: str, setting: Setting, jobs: Mapping[str, Mapping[str, Any]]
) -> JobResult:
    """Decode the archive of a job.

    Args:
        data: The archive.
        where: What it is called in errors.
        setting: In which it was measured.
        jobs: Key -> the job's row in the manifest.

    Raises:
        DamagedBundleError: It was edited or cut, or is of another bundle.
        EngineError: What the tool left is in no known format.
    """
    files = _read_archive(data, where)
    try:
        facts = read_facts(files["job.txt"])
        key, measured_at, seconds = facts["key"], facts["measured_at"], float(facts["seconds"])
        device = describe_tool_device(read_facts(files["device.txt"]), setting)
    except (KeyError, ValueError) as error:
        raise _refuse(where, f"it lacks {error}") from error
    if key not in jobs:
        raise DamagedBundleError(f"{where} is of {key}, which its bundle does not ask for")
    row = jobs[key]
    read = TOOLS[setting.engine].read
    names = list_files(row["models"])
    laps: dict[str, list[Lap]] = {}
    for role, name in row["models"].items():
        laps[role] = []
        for group in _list_rounds(files, names.index(name)):
            times = _read_times(read, group, f"{where} ({role})")
            laps[role] += [Lap(ms, ms) for ms in times.laps_ms]
        if not laps[role]:
            raise _refuse(where, f"nothing of {role} was timed")
    profile = None
    if "target" in row:
        own = _pick(files, "profile.")
        # Without times of its own it is that of the runs without the profiler.
        times = _read_times(read, own, f"{where} (profile)") if own else ToolTimes(())
        profile = _make_profile(times, laps[row["target"]])
    return JobResult(key, device, measured_at, seconds, (BuildResult(laps, profile),))


def read_archives(
    folder: Path, setting: Setting, jobs: Mapping[str, Mapping[str, Any]]
) -> dict[str, JobResult]:
    """Read all archives of a bundle by key.

    Raises:
        DamagedBundleError: One was edited, cut or renamed, or they are of several devices.
    """
    return read_results(
        folder, ARCHIVE, lambda data, where: decode_archive(data, where, setting, jobs)
    )


def _read_archive(data: bytes, where: str) -> dict[str, str]:
    """Read the files of an archive, whose digests are in it; nothing is unpacked."""
    raw: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None:
                    raw[member.name.removeprefix("./")] = file.read()
    except (OSError, EOFError, tarfile.TarError, ValueError) as error:
        raise _refuse(where, str(error)) from error
    sums = raw.pop(_SUMS, b"").decode("ascii", "replace")
    listed = {line[66:].strip(): line[:64] for line in sums.splitlines()}
    if not listed or listed != {n: hashlib.sha256(own).hexdigest() for n, own in raw.items()}:
        raise _refuse(where, "its digests do not match")
    return {name: own.decode("utf-8", "replace") for name, own in raw.items()}


def _list_rounds(files: Mapping[str, str], index: int) -> list[dict[str, str]]:
    """List what each round left of a network, by kind of file."""
    found: list[dict[str, str]] = []
    while own := _pick(files, f"time-{len(found)}-{index}."):
        found.append(own)
    return found


def _pick(files: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {n.removeprefix(prefix): text for n, text in files.items() if n.startswith(prefix)}


def _read_times(read: Any, files: Mapping[str, str], where: str) -> ToolTimes:
    try:
        times: ToolTimes = read(files)
    except KeyError as error:
        raise _refuse(where, f"it lacks {error}") from error
    except EngineError as error:
        raise EngineError(f"{where}: {error}") from error
    return times


def _make_profile(times: ToolTimes, laps: list[Lap]) -> ForeignProfile:
    steps = [
        (step.name, step.source or step.name, 1 if step.reorders else -1) for step in times.steps
    ]
    ms = np.array([[step.ms for step in times.steps]], dtype=np.float64)
    usual = float(np.median(times.laps_ms or [lap.wall_ms for lap in laps]))
    return ForeignProfile(steps, ms, [Lap(usual, usual)])


def _refuse(where: str, why: str) -> DamagedBundleError:
    return DamagedBundleError(
        f"{where} was edited or cut ({why}): delete it over there and run the bundle again"
    )
