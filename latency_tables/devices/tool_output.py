"""What vendors' tools print and write, read into laps and steps: one function a tool.

Formats: TensorRT's ``trtexec`` (``--exportTimes``, ``--exportProfile``, ``--exportLayerInfo``),
ONNX Runtime's ``onnxruntime_perf_test`` (its summary, its file of results, and ``-p``), OpenVINO's
``benchmark_app`` (``-report_type detailed_counters``), LiteRT's ``benchmark_model``
(``--enable_op_profiling``) and ``litert-benchmark``, which comes with its Python wheel.
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
# A row of benchmark_model's tables: kind, start in older ones, first, average, two shares, memory,
# how often in a run, name. Set with tabs or with spaces, and kinds and names may hold spaces.
_ROW = re.compile(
    r"^\s*(?P<kind>\S.*?)\s+(?:[\d.]+\s+)?[\d.]+\s+(?P<ms>[\d.]+)\s+[\d.]+%\s+[\d.]+%"
    r"\s+[\d.]+\s+(?P<times>\d+)\s+(?P<name>\S.*?)\s*$"
)


@dataclass(frozen=True)
class ToolStep:
    """One thing that was executed.

    Attributes:
        name: As the tool gives it.
        ms: Milliseconds in a run.
        source: What tells which operators it was made of; empty: its name does.
        reorders: Whether it brings values into the form that the next step takes.
    """

    name: str
    ms: float
    source: str = ""
    reorders: bool = False


@dataclass(frozen=True)
class ToolTimes:
    """What a tool says of one network.

    Attributes:
        laps_ms: End to end: every run where the tool tells it, its median otherwise.
        steps: What was executed, in order; empty where nothing was told.
    """

    laps_ms: tuple[float, ...]
    steps: tuple[ToolStep, ...] = ()


def read_trtexec(times: str, profile: str = "", information: str = "") -> ToolTimes:
    """Read the files of ``--exportTimes``, ``--exportProfile`` and ``--exportLayerInfo``.

    A lap is the time on the GPU (``computeMs``), as TensorRT is timed elsewhere here.
    """
    runs = _load("trtexec --exportTimes", times) if times else []
    laps = _pick("trtexec --exportTimes", lambda: [float(run["computeMs"]) for run in runs])
    layers = _load("trtexec --exportProfile", profile) if profile else []
    sources = _read_layer_sources(information) if information else {}

    def list_steps() -> list[ToolStep]:
        # The first entry counts the runs; medians came with TensorRT 8.
        rows = [row for row in layers if "name" in row]
        return [
            ToolStep(
                row["name"], float(row.get("medianMs", row.get("averageMs"))),
                sources.get(row["name"], ""),
                "Reformat" in row["name"] or "CopyNode" in row["name"],
            )
            for row in rows
        ]  # fmt: skip

    return ToolTimes(tuple(laps), tuple(_pick("trtexec --exportProfile", list_steps)))


def _read_layer_sources(information: str) -> dict[str, str]:
    """Map layers to the ONNX nodes that they were made of, as TensorRT's metadata."""
    tool = "trtexec --exportLayerInfo"
    try:
        layers = json.loads(information)["Layers"]
        # Plain names, where the engine was built without details.
        own = [layer for layer in layers if isinstance(layer, dict)]
        return {layer["Name"]: str(layer.get("Metadata", "")) for layer in own}
    except (ValueError, KeyError, TypeError) as error:
        raise _refuse(tool, f"no Layers with Name: {error}") from error


def read_perf_test(summary: str, profile: str = "", results: str = "") -> ToolTimes:
    """Read what ``onnxruntime_perf_test`` prints, a profile of ``-p``, and its file of results.

    That file holds a line of ``model,seconds,...`` a run; without it the median, of which the
    summary tells the seconds, is the lap.
    """
    rows = [line.rsplit(",", 4) for line in results.splitlines() if line.count(",") >= 4]
    laps = _pick("onnxruntime_perf_test", lambda: [1e3 * float(row[1]) for row in rows])
    found = re.search(r"^\s*P50 Latency(?::| is)\s*([\d.eE+-]+)\s*s", summary, re.MULTILINE)
    mean = re.search(
        r"^\s*Average (?:inference )?time cost(?: total)?:\s*([\d.eE+-]+)\s*ms",
        summary, re.MULTILINE,
    )  # fmt: skip
    if not laps and found is not None:
        laps = [1e3 * float(found[1])]
    if not laps and mean is not None:
        laps = [float(mean[1])]
    if not laps:
        raise _refuse("onnxruntime_perf_test", "neither P50 Latency nor Average inference time")
    if not profile:
        return ToolTimes(tuple(laps))
    events = _load("onnxruntime_perf_test -p", profile)
    try:
        names, us = read_kernels(events)
    except (RunnerError, KeyError, TypeError) as error:
        raise _refuse("onnxruntime_perf_test -p", str(error)) from error
    return ToolTimes(tuple(laps), _take_medians(names, us))


def read_benchmark_app(printed: str, counters: str = "") -> ToolTimes:
    """Read what ``benchmark_app`` prints, and its report of detailed counters (CSV with ``;``)."""
    found = re.search(r"\bMedian:\s*([\d.]+)\s*(us|ms|s)\b", printed)
    if found is None:
        raise _refuse("benchmark_app", "no Median below Latency")
    steps = []
    for row in csv.reader(counters.splitlines(), delimiter=";"):
        if row and row[0] == "Total":  # of the first request; others follow
            break
        # layerName;execStatus;layerType;execType;realTime (ms);cpuTime (ms)
        if len(row) >= 6 and row[1].rpartition(".")[2] == "EXECUTED":
            ms = _pick("benchmark_app", lambda row=row: [float(row[4])])[0]  # type: ignore[misc]
            steps.append(ToolStep(row[0], ms, reorders=row[2] == "Reorder"))
    return ToolTimes((float(found[1]) * _UNITS[found[2]],), tuple(steps))


def read_benchmark_model(printed: str) -> ToolTimes:
    """Read what LiteRT's ``benchmark_model`` prints with ``--enable_op_profiling=true``.

    Delegates run many operators as one, whose name says no more than the delegate's.
    """
    found = re.findall(r"Inference \(avg\):\s*([\d.eE+]+)", printed)
    # The last such line before the tables is of the runs that count; one before it of warming up.
    stats = re.findall(r"^(?:INFO: )?count=\d+ [^\n]*\bmedian=([\d.eE+]+)", printed, re.MULTILINE)
    if not found and not stats:
        raise _refuse("benchmark_model", "no Inference (avg)")
    lap_ms = float(stats[-1] if stats else found[-1]) / 1e3
    # The last table of that kind is the inference's; one before it is the initialization's.
    orders = re.split(r"^(?:INFO: )?=+ Run Order =+\s*$", printed, flags=re.MULTILINE)
    steps = []
    for line in orders[-1].splitlines() if len(orders) > 1 else ():
        if line.removeprefix("INFO: ").startswith("=="):
            break
        row = _ROW.match(line)
        if row is not None:
            name = row["name"].rpartition(":")[0].strip("[]") or row["name"]
            # The average is of one call; a run may hold several.
            steps.append(ToolStep(name, float(row["ms"]) * int(row["times"])))
    return ToolTimes((lap_ms,), tuple(steps))


def read_litert_benchmark(printed: str) -> ToolTimes:
    """Read what ``litert-benchmark`` prints; it has no profiler."""
    found = re.search(r"^Inference \(median\):\s*([\d.]+)\s*ms", printed, re.MULTILINE)
    if found is None:
        raise _refuse("litert-benchmark", "no Inference (median)")
    return ToolTimes((float(found[1]),))


def _take_medians(names: Sequence[str], rows: Sequence[Sequence[float]]) -> tuple[ToolStep, ...]:
    """Take each kernel's median over the runs; the first run still fetches memory."""
    kept = rows[1:] or rows
    columns = [sorted(row[index] for row in kept) for index in range(len(names))]
    return tuple(
        ToolStep(name, column[len(column) // 2] / 1e3, reorders="ReorderInput" in name)
        for name, column in zip(names, columns, strict=True)
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
