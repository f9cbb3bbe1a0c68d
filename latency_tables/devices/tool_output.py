"""What vendors' tools print and write, read into laps and steps: one function a tool.

Formats: TensorRT's ``trtexec`` (``--exportTimes``, ``--exportProfile``), ONNX Runtime's
``onnxruntime_perf_test`` (its summary, and ``-p``), OpenVINO's ``benchmark_app``
(``-report_type detailed_counters``), LiteRT's ``benchmark_model`` (``--enable_op_profiling``).
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import EngineError
from .runner.onnxruntime_part import read_kernels
from .runner.records import RunnerError

_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True)
class ToolTimes:
    """What a tool says of one network.

    Attributes:
        laps_ms: End to end: every run where the tool tells it, its median otherwise.
        steps: Name and milliseconds of what was executed, in order; empty where nothing was told.
    """

    laps_ms: tuple[float, ...]
    steps: tuple[tuple[str, float], ...] = ()


def read_trtexec(times: str, profile: str) -> ToolTimes:
    """Read the files of ``--exportTimes`` and ``--exportProfile``.

    A lap is the time on the GPU (``computeMs``), as TensorRT is timed elsewhere here.
    """
    runs = _load("trtexec --exportTimes", times)
    layers = _load("trtexec --exportProfile", profile) if profile else []
    laps = _pick("trtexec --exportTimes", lambda: [float(run["computeMs"]) for run in runs])

    def list_steps() -> list[tuple[str, float]]:
        # The first entry counts the runs; medians came with TensorRT 8.
        rows = [row for row in layers if "name" in row]
        return [(row["name"], float(row.get("medianMs", row.get("averageMs")))) for row in rows]

    return ToolTimes(tuple(laps), tuple(_pick("trtexec --exportProfile", list_steps)))


def read_perf_test(summary: str, profile: str) -> ToolTimes:
    """Read what ``onnxruntime_perf_test`` prints, and the profile of a run with ``-p``.

    The summary tells percentiles in seconds; the median is the lap.
    """
    found = re.search(r"^P50 Latency:\s*([\d.eE+-]+)\s*s\b", summary, re.MULTILINE)
    mean = re.search(
        r"^Average inference time cost(?: total)?:\s*([\d.eE+-]+)\s*ms", summary, re.MULTILINE
    )
    if found is None and mean is None:
        raise _refuse("onnxruntime_perf_test", "neither P50 Latency nor Average inference time")
    lap_ms = float(found[1]) * 1e3 if found is not None else float(mean[1])  # type: ignore[index]
    if not profile:
        return ToolTimes((lap_ms,))
    events = _load("onnxruntime_perf_test -p", profile)
    try:
        names, rows = read_kernels(events)
    except (RunnerError, KeyError, TypeError) as error:
        raise _refuse("onnxruntime_perf_test -p", str(error)) from error
    return ToolTimes((lap_ms,), _average(names, rows))


def read_benchmark_app(printed: str, counters: str) -> ToolTimes:
    """Read what ``benchmark_app`` prints, and its report of detailed counters (CSV with ``;``)."""
    found = re.search(r"\bMedian:\s*([\d.]+)\s*(us|ms|s)\b", printed)
    if found is None:
        raise _refuse("benchmark_app", "no Median below Latency")
    steps = []
    for row in csv.reader(counters.splitlines(), delimiter=";"):
        # layerName;execStatus;layerType;execType;realTime (ms);cpuTime (ms)
        if len(row) >= 6 and row[1].rpartition(".")[2] == "EXECUTED":
            steps.append((row[0], float(row[4])))
    return ToolTimes((float(found[1]) * _UNITS[found[2]],), tuple(steps))


def read_benchmark_model(printed: str) -> ToolTimes:
    """Read what LiteRT's ``benchmark_model`` prints with ``--enable_op_profiling=true``.

    Delegates run many operators as one, whose name says no more than the delegate's.
    """
    found = re.findall(r"Inference \(avg\):\s*([\d.eE+]+)", printed)
    stats = re.findall(r"\bcount=\d+ [^\n]*\bmedian=([\d.eE+]+)", printed)
    if not found and not stats:
        raise _refuse("benchmark_model", "no Inference (avg)")
    lap_ms = float(stats[-1] if stats else found[-1]) / 1e3
    # The last table of that kind is the inference's; one before it is the initialization's.
    orders = re.split(r"^=+ Run Order =+\s*$", printed, flags=re.MULTILINE)
    steps = []
    for line in orders[-1].splitlines() if len(orders) > 1 else ():
        if line.startswith("=="):
            break
        cells = [cell.strip() for cell in line.split("\t") if cell.strip()]
        # node type, first, avg ms, %, cdf%, mem KB, times called, name
        if len(cells) >= 8 and cells[0] != "[node type]":
            steps.append((cells[-1].rpartition("]")[0].removeprefix("[") or cells[0],
                          float(cells[2])))  # fmt: skip
    return ToolTimes((lap_ms,), tuple(steps))


def _average(
    names: Sequence[str], rows: Sequence[Sequence[float]]
) -> tuple[tuple[str, float], ...]:
    """Take each kernel's median over the runs; the first run still fetches memory."""
    kept = rows[1:] or rows
    columns = [sorted(row[index] for row in kept) for index in range(len(names))]
    return tuple(
        (name, column[len(column) // 2] / 1e3) for name, column in zip(names, columns, strict=True)
    )


def _load(tool: str, text: str) -> list[Mapping[str, Any]]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise _refuse(tool, f"not JSON: {error}") from error
    if not isinstance(found, list):
        raise _refuse(tool, "not a list")
    return found


def _pick(tool: str, call: Callable[[], list[Any]]) -> list[Any]:
    try:
        return call()
    except (KeyError, TypeError, ValueError) as error:
        raise _refuse(tool, f"an entry lacks {error}") from error


def _refuse(tool: str, why: str) -> EngineError:
    return EngineError(f"what {tool} wrote is not in a known format: {why}")
