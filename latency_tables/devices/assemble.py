"""The runner as one file, put together from its parts."""

import re
from functools import cache
from pathlib import Path

RUNNER = "runner.py"
_PARTS = (
    "records", "models", "laps", "device_facts", "onnxruntime_part", "openvino_part",
    "tensorrt_part", "main",
)  # fmt: skip
# Lines that only hold between the parts, and what stands once at the top.
_LEFT_OUT = re.compile(
    r"^(from \.\w+ import .*|from __future__ import annotations)\n", re.MULTILINE
)
# Before any other import. ONNX Runtime writes a number of the device below the user's cache when it
# is imported, for telemetry; CUDA keeps kernels in the user's folder.
_HEAD = """\
from __future__ import annotations

import os
import sys

sys.dont_write_bytecode = True  # nothing is written outside of the bundle
os.environ["ORT_DISABLE_TELEMETRY"] = os.environ["CUDA_CACHE_DISABLE"] = "1"
"""
_DOCSTRING = re.compile(r'\A"""(.*?)"""\n', re.DOTALL)


@cache
def assemble_runner() -> str:
    """Return the source of the runner: one file for Python 3.8 or later."""
    folder = Path(__file__).parent / "runner"
    texts = {name: (folder / f"{name}.py").read_text(encoding="utf-8") for name in _PARTS}
    documentation = _DOCSTRING.match(texts["main"])
    assert documentation is not None
    lines = [f'#!/usr/bin/env python3\n"""{documentation[1]}"""\n\n']
    lines.append(_HEAD)
    for name, text in texts.items():
        body = _LEFT_OUT.sub("", _DOCSTRING.sub("", text))
        lines.append(f"\n# {'-' * 20} {name}\n{body}")
    return "".join(lines)
