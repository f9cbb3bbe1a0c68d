"""A bundle: a folder that measures what it is asked to wherever it is run."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import DamagedBundleError, LatencyError
from ..source import Probe
from .assemble import RUNNER, assemble_runner
from .job import Job, Pace, Setting
from .light_model import pack_model
from .runner.records import FORMAT, RunnerError, read_manifest, seal_record

MANIFEST, SCRIPT = "manifest.json", "run.sh"
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
        setting: Of the engine over there.
        jobs: What to measure, in this order.
        pace: How the time is shared.
        export: Gives a network's ONNX bytes in the setting's precision.
        with_weights: Ship weights instead of making them over there.

    Returns:
        The manifest.

    Raises:
        LatencyError: The folder holds something else.
    """
    scratch = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}"
    try:
        (scratch / "models").mkdir(parents=True)
        files = {
            RUNNER: _write(scratch / RUNNER, assemble_runner().encode()),
            SCRIPT: _write(scratch / SCRIPT, _SCRIPT.encode()),
        }
        (scratch / SCRIPT).chmod(0o755)
        rows = []
        for job in jobs:
            names = {}
            for role, model in job.models.items():
                file = f"models/{model.name}.gz"
                names[role] = f"{model.name}.gz"
                if file not in files:
                    files[file] = _write(scratch / file, _pack(model.make(), export, with_weights))
            rows.append({"key": job.key, "models": names, **job.request})
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
