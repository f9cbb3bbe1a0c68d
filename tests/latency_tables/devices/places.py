"""Devices for the tests: a Python without torch, and bundles run by it."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from latency_tables import Setting

SETTING = Setting("onnxruntime", 1, "fp32")
# What ``import onnxruntime`` needs; torch, onnx and this package are not among it.
_LIBRARIES = ("numpy", "numpy.libs", "onnxruntime", "onnxruntime.libs")

_ADB = """\
#!/bin/sh
# Stands in for adb: records what it is asked, and does it here, below {device}.
echo "$@" >> {log}
[ "$1" = -s ] && [ "$2" = 0123456789 ] || {{ echo "adb: device '$2' not found" >&2; exit 1; }}
case "$3" in
  shell) shift 3; cd {device} && exec sh -c "$(echo "$*" | sed 's#/data/local/tmp#{device}#g')" ;;
  push) exec cp -r "$4" "$(echo "$5" | sed 's#/data/local/tmp#{device}#')" ;;
esac
"""


def install_adb(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Put a stand-in for adb on PATH; return the device's folder, and the log of its calls."""
    device, log, programs = folder / "device", folder / "log", folder / "bin"
    device.mkdir()
    programs.mkdir()
    (programs / "adb").write_text(_ADB.format(device=device, log=log))
    (programs / "adb").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return device, log


def make_python(folder: Path, stand_in: str | None = None) -> Path:
    """Make a virtual environment with numpy and onnxruntime only, or with a stand-in for it."""
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", "--symlinks", str(folder)], check=True
    )
    (site,) = folder.glob("lib/python*/site-packages")
    spec = find_spec("numpy")
    assert spec is not None and spec.origin is not None
    packages = Path(spec.origin).parents[1]
    for name in _LIBRARIES:
        if (packages / name).exists() and not (stand_in and name.startswith("onnxruntime")):
            (site / name).symlink_to(packages / name)
    if stand_in is not None:
        (site / "onnxruntime.py").write_text(stand_in)
    return folder / "bin" / "python"


def run_bundle(
    folder: Path, python: Path, *arguments: str, ok: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a bundle as a user does on the device."""
    environment = {"PATH": os.environ["PATH"], "PYTHON": str(python), "HOME": str(folder.parent)}
    done = subprocess.run(
        ["sh", str(folder / "run.sh"), *arguments],
        env=environment, capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip
    assert not ok or done.returncode == 0, done.stdout + done.stderr
    return done
