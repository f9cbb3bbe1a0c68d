"""A bundle: a folder that measures what it is asked to wherever it is run."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import DamagedBundleError, LatencyError
from ..source import Probe
from .assemble import RUNNER, assemble_runner
from .job import Job, Pace, Setting
from .light_model import pack_model
from .runner.records import FORMAT, RunnerError, read_manifest, seal_record
from .tools import ONNX, TOOLS, assemble_tool_script, write_job_line

MANIFEST, SCRIPT = "manifest.json", "run.sh"
_PACKED = ".gz"  # of models whose weights are made over there, or that are compressed
_JOBS, _SUMS = "jobs.txt", "SHA256SUMS"  # of bundles for a vendor's tool
_SCRIPT = """\
#!/bin/sh
# Measures what this bundle asks for, into results/ and raw/ beside this file. The same command
# again continues. PYTHON names a Python (3.8 or later) that has numpy and the engine.
cd "$(dirname "$0")" || exit 1
exec "${PYTHON:-python3}" runner.py "$@"
"""


def write_bundle(
    folder: Path,
    name: str,
    setting: Setting,
    jobs: Iterable[Job],
    pace: Pace,
    export: Callable[[Probe], bytes],
    with_weights: bool = False,
) -> dict[str, Any]:
    """Write a bundle, whole or not at all; equal arguments write equal files.

    Args:
        folder: Must not be there, or hold this very bundle, whose results then stay.
        name: Of the network.
        setting: Of the engine over there, which may be a vendor's tool.
        jobs: What to measure, in this order.
        pace: How the time is shared.
        export: Gives the bytes of a network's file in the setting's precision, as the engine
            reads it: ONNX, or what the tool takes.
        with_weights: Ship weights instead of making them over there.

    Returns:
        The manifest.

    Raises:
        LatencyError: The folder holds something else.
    """
    tool = TOOLS.get(setting.engine)
    light = tool is None or (tool.suffix == ONNX and not with_weights)
    suffix = _PACKED if tool is None or light else tool.suffix

    def pack(probe: Probe) -> bytes:
        return _pack(probe, export, with_weights) if light else export(probe)

    scratch = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}"
    try:
        (scratch / "models").mkdir(parents=True)
        files: dict[str, str] = {}
        if light:
            files[RUNNER] = _write(scratch / RUNNER, assemble_runner().encode())
        rows = [_write_job(scratch, job, suffix, pack, files) for job in jobs]
        if tool is None:
            files[SCRIPT] = _write(scratch / SCRIPT, _SCRIPT.encode())
        else:
            files |= _write_tool_files(scratch, setting, rows, pace, files)
        (scratch / SCRIPT).chmod(0o755)
        manifest: dict[str, Any] = {
            "format": FORMAT, "name": name, "setting": setting.to_json(), "budget": asdict(pace),
            "files": files, "jobs": rows,
        }  # fmt: skip
        manifest["seal"] = seal_record(manifest)
        _write(scratch / MANIFEST, json.dumps(manifest, indent=1).encode())
        _move_into_place(scratch, folder, manifest)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return manifest


def _write_job(
    scratch: Path, job: Job, suffix: str, pack: Callable[[Probe], bytes], files: dict[str, str]
) -> dict[str, Any]:
    """Write a job's models but those in ``files``, and enter them there; return its row."""
    names = {role: model.name + suffix for role, model in job.models.items()}
    for role, model in job.models.items():
        file = f"models/{names[role]}"
        if file not in files:
            files[file] = _write(scratch / file, pack(model.make()))
    return {"key": job.key, "models": names, **job.request}


def _write_tool_files(
    scratch: Path,
    setting: Setting,
    rows: Sequence[Mapping[str, Any]],
    pace: Pace,
    files: Mapping[str, str],
) -> dict[str, str]:
    """Write what a vendor's tool is driven by; return the digests of these files."""
    lines = "".join(write_job_line(row, pace.longest_s) for row in rows)
    found = {_JOBS: _write(scratch / _JOBS, lines.encode())}
    listed = sorted({**files, **found}.items())
    sums = "".join(f"{digest}  {file}\n" for file, digest in listed)
    found[_SUMS] = _write(scratch / _SUMS, sums.encode())
    script = assemble_tool_script(setting, pace.rest_s, found[_SUMS])
    found[SCRIPT] = _write(scratch / SCRIPT, script.encode())
    return found


def read_bundle(folder: Path) -> dict[str, Any]:
    """Read a bundle's manifest and check all its files.

    Raises:
        DamagedBundleError: A file is missing, cut or edited.
    """
    try:
        manifest: dict[str, Any] = read_manifest(str(folder))
    except RunnerError as error:
        raise DamagedBundleError(f"{error} ({folder})") from error
    return manifest


def _move_into_place(scratch: Path, folder: Path, manifest: dict[str, Any]) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        known = folder / MANIFEST
        if not known.is_file() or read_bundle(folder)["seal"] != manifest["seal"]:
            raise LatencyError(f"{folder} holds something else: name another folder")
        return
    if folder.is_dir():
        folder.rmdir()
    os.replace(scratch, folder)


def _pack(probe: Probe, export: Callable[[Probe], bytes], with_weights: bool) -> bytes:
    arrays = [x.detach().cpu().numpy() for x in probe.inputs]
    return pack_model(export(probe), arrays, with_weights)


def _write(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()
