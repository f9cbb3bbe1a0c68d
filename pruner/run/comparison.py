"""The verb compare: several RUNs side by side, as a table and, where it is asked for, a page."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..errors import PrunerError
from ..utils import write_text
from .console_summary import Outcome
from .metrics import Metrics
from .report import render_comparison
from .results import read_metrics
from .run_folder import RunFolder


@dataclass(frozen=True)
class ComparedRun:
    """One budget of a RUN: the folder as it was given (and its budget's), MODEL, and figures."""

    name: str
    model: str
    metrics: Metrics


def compare(
    runs: Sequence[str | os.PathLike[str]], page: str | os.PathLike[str] | None = None
) -> Outcome:
    """Lay RUNs side by side; ``page`` is an HTML file to write the same into, with a plot.

    Raises:
        PrunerError: One of them is no RUN, or has no network yet.
    """
    found = [one for path in runs for one in _read_runs(path)]
    table = tabulate(found)
    devices = sorted({one.metrics.device for one in found})
    lines = [table.to_string(index=False, na_rep="-")]
    if len(devices) == 1:
        lines.append(f"on {devices[0]}")
    else:
        lines.append("these are several devices or settings: latencies do not compare")
        lines += [f"  {one.name}: {one.metrics.device}" for one in found]
    if page is not None:
        rows = [(one.name, one.model, one.metrics) for one in found]
        write_text(Path(page), render_comparison(rows))
        lines.append(f"page: {page}")
    return Outcome("\n".join(lines), {"runs": table.to_dict("records"), "devices": devices})


def tabulate(runs: Sequence[ComparedRun]) -> pd.DataFrame:
    """Return a row a network; latencies are measured ones, or ``~`` and what the table predicts.

    Of each metric there is a column, empty for the runs that are not judged by it.
    """
    rows = []
    for one in runs:
        metrics, dense, pruned = one.metrics, one.metrics.dense, one.metrics.pruned
        kind, timed = metrics.judged_by, pruned.latency_ms is not None
        row = {
            "run": one.name,
            "model": one.model,
            "budget": str(metrics.budget),
            "dense ms": f"{dense.latency_ms:.4g}",
            "ms": f"{pruned.latency_ms:.4g}" if timed else f"~{pruned.predicted_ms:.4g}",
            "faster": f"{metrics.speedup:.2f}x" if metrics.speedup else None,
            "parameters": f"{pruned.parameters:,}",
            "gap": f"{metrics.solver.gap:.1g}",
        }
        values = {f"{kind.name}, dense": dense.value, kind.name: pruned.value}
        row |= {name: kind.format(v) for name, v in values.items() if v is not None}
        rows.append(row)
    return pd.DataFrame(rows)


def _read_runs(path: str | os.PathLike[str]) -> Iterator[ComparedRun]:
    folder = RunFolder(path)
    state = folder.read_state()
    folders = [RunFolder(folder / slug) for slug in state["budgets"]] or [folder]
    solved = [one for one in folders if "solve" in one.read_state()["steps"]]
    if not solved:
        raise PrunerError(f"{folder.path} holds no network yet: msprune solve {folder.path}")
    for one in solved:
        model = str(one.read_state()["identity"]["model"])
        yield ComparedRun(str(one.path), model, read_metrics(one))
