"""Devices for the tests: a Python without torch, and bundles run by it."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from latency_tables import Setting

SETTING = Setting("onnxruntime", 1, "fp32")
# What ``import onnxruntime`` needs; torch, onnx and this package are not among it.
_LIBRARIES = ("numpy", "numpy.libs", "onnxruntime", "onnxruntime.libs")


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
