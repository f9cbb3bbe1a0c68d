"""Vendors' tools that measure over there: what each takes, and how what it leaves is read."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..device import Device
from ..errors import CarrierError
from .job import Setting
from .runner.device_facts import INSTRUCTIONS
from .tool_output import (
    ToolTimes,
    read_benchmark_app,
    read_benchmark_model,
    read_litert_benchmark,
    read_perf_test,
    read_trtexec,
)

ONNX, LITERT = ".onnx", ".tflite"
ROUNDS = 2  # of each of a probe's networks in turn, each a process of its own
_LONGEST_ROUND_S, _MOST_ROUNDS = 1.0, 5
_SCRIPT = Path(__file__).parent / "runner" / "tool_runner.sh"


@dataclass(frozen=True)
class Tool:
    """A program that times a network's file, driven by a POSIX script.

    Attributes:
        engine: What runs the network in it, which decides how networks are exported.
        suffix: Of the files that it reads.
        precisions: What it may be asked to compute in.
        read: What one run of it left: text by kind of file (``out`` is what it printed) -> times.
    """

    engine: str
    suffix: str
    precisions: tuple[str, ...]
    read: Callable[[Mapping[str, str]], ToolTimes]


TOOLS: Mapping[str, Tool] = {
    "trtexec": Tool(
        "tensorrt", ONNX, ("fp32", "fp16", "bf16", "int8"),
        lambda own: read_trtexec(
            own.get("times", ""), own.get("layers", ""), own.get("information", "")
        ),
    ),
    "onnxruntime_perf_test": Tool(
        "onnxruntime", ONNX, ("fp32", "int8"),
        lambda own: read_perf_test(own["out"], own.get("events", ""), own.get("laps", "")),
    ),
    "benchmark_app": Tool(
        "openvino", ONNX, ("fp32", "bf16", "fp16", "int8"),
        lambda own: read_benchmark_app(own["out"], own.get("counters", "")),
    ),
    "benchmark_model": Tool(
        "litert", LITERT, ("fp32",), lambda own: read_benchmark_model(own["out"])
    ),
    "litert-benchmark": Tool(
        "litert", LITERT, ("fp32",), lambda own: read_litert_benchmark(own["out"])
    ),
}  # fmt: skip
"""Name of the program -> what it is."""


def assemble_tool_script(setting: Setting, rest_s: float, sums: str = "") -> str:
    """Return the POSIX script that drives the setting's tool.

    ``sums``: SHA-256 of the bundle's list of digests; without it, it can only describe a device.
    """
    values = {
        "NAME": setting.engine, "THREADS": setting.threads, "PRECISION": setting.precision,
        "REST_S": math.ceil(rest_s), "SUMS": sums,
    }  # fmt: skip
    head = "".join(f"{name}={value}\n" for name, value in values.items())
    return (
        f"#!/bin/sh\n# Measures what this bundle asks for with {setting.engine}.\n{head}{_body()}"
    )


@cache
def _body() -> str:
    return _SCRIPT.read_text(encoding="utf-8")


def write_job_line(row: Mapping[str, Any], pace_s: float) -> str:
    """Encode a job of a manifest for the script.

    Its key, how many rounds, seconds of a round (exact and rounded up), whom to profile, and the
    networks' files, each once. ``pace_s``: what a probe is timed for where its limits do not say.
    """
    files = list_files(row["models"])
    if (target := row.get("target")) is not None:
        seconds = (row["limits"]["seconds"] or pace_s) / ROUNDS
        rounds, profiled = ROUNDS * row["builds"], row["models"][target]
    else:
        rounds, seconds, profiled = min(row["rounds"], _MOST_ROUNDS), _LONGEST_ROUND_S, "-"
    seconds = min(seconds, _LONGEST_ROUND_S)
    words = (row["key"], rounds, f"{seconds:.2f}", math.ceil(seconds), profiled, *files)
    return " ".join(map(str, words)) + "\n"


def list_files(models: Mapping[str, str]) -> list[str]:
    """List the files of a job's networks in the order in which the script times them."""
    return list(dict.fromkeys(models.values()))


def read_facts(text: str) -> dict[str, str]:
    """Read the script's lines of ``name=value``."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name: value.strip() for name, _, value in pairs}


def describe_tool_device(facts: Mapping[str, str], setting: Setting) -> Device:
    """Make the device of what the script says of it.

    Raises:
        CarrierError: It says too little.
    """
    missing = [name for name in ("tool", "version", "system", "cores") if not facts.get(name)]
    if missing or not facts["cores"].isdigit():
        raise CarrierError(f"the device did not say its {', '.join(missing) or 'cores'}")
    model = facts.get("model") or facts.get("machine", "")
    if facts.get("family"):
        model += f" (family {facts['family']}, model {facts.get('number') or '?'})"
    flags = set(re.split(r"\s+", facts.get("flags", "")))
    gpu = facts.get("gpu", "")
    return Device(
        gpu or model, "" if gpu else " ".join(name for name in INSTRUCTIONS if name in flags),
        int(facts["cores"]), facts["system"], facts["tool"], facts["version"], setting.threads,
        setting.precision, setting.batch, facts.get("driver", ""), facts.get("options", ""),
        facts.get("board", ""), facts.get("power", ""),
    )  # fmt: skip
