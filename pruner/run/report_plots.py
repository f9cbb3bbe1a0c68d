"""What the report plots: the trade, the table against the device, values over latencies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from latency_tables import LatencyTable, predict_unseen

from ..tasks import MetricKind
from .metrics import Metrics
from .plot import Mark, Plot, lay_out

Laid = dict[str, Any] | None
_Side = tuple[str, float | None, float | None]
"""A network: its name, milliseconds and value."""
_MEASURED = "milliseconds, measured"


def plot_frontier(rows: pd.DataFrame, metrics: Metrics) -> Laid:
    """Plot what every budget keeps (rows of frontier.csv), and where this structure lies."""
    marks = []
    for row in rows.to_dict("records"):
        proven = row["gap"] <= 0
        proof = "proven best" if proven else f"at most {row['gap']:.2g} below the best"
        text = (
            f"point {row['point']}, {row['budget']}: {row['predicted_ms']:.4g} ms, keeps "
            f"{row['value']:.5g}, {row['parameters']:,} parameters, {row['blocks']} blocks; {proof}"
        )
        where = float(row["predicted_ms"]), float(row["value"])
        marks.append(Mark(*where, text, "kept" if proven else "hollow"))
    if marks:
        last = marks[-1]
        marks[-1] = Mark(last.x, last.y, last.text, last.kind, "largest budget")
    own = metrics.pruned.predicted_ms, metrics.solver.value
    said = f"this network, {metrics.budget}: {own[0]:.4g} ms, keeps {own[1]:.5g}"
    return lay_out(
        Plot(
            "What every budget keeps",
            "milliseconds, predicted",
            "importance kept",
            [*marks, Mark(*own, said, "mark", "this network")],
            [(m.x, m.y) for m in marks],
        )
    )


def plot_table(table: LatencyTable, metrics: Metrics) -> Laid:
    """Plot predicted over measured latencies: of structures held out, and of those checked."""
    network = table.readings[-1].network if table.readings else None
    marks = [
        Mark(measured, predicted, _say_error("held out", predicted, measured))
        for predicted, measured in predict_unseen(table, network)
    ]
    for number, one in enumerate(metrics.check, 1):
        said = _say_error(f"checked, round {number}", one.predicted_ms, one.measured_ms)
        marks.append(Mark(one.measured_ms, one.predicted_ms, said, "hollow"))
    pruned = metrics.pruned
    if pruned.latency_ms is not None:
        said = _say_error("this network", pruned.predicted_ms, pruned.latency_ms)
        marks.append(Mark(pruned.latency_ms, pruned.predicted_ms, said, "mark", "this network"))
    title = "Predicted against measured"
    return lay_out(Plot(title, _MEASURED, "milliseconds, predicted", marks, diagonal=True))


def plot_values(rows: Sequence[Metrics]) -> Laid:
    """Plot the task's metric over measured latencies, dense beside the budgets.

    None where nothing but the dense network was measured and judged.
    """
    dense = rows[0].dense
    sides: list[_Side] = [(str(m.budget), m.pruned.latency_ms, m.pruned.value) for m in rows]
    return _plot_sides(rows[0].judged_by, sides, [("dense", dense.latency_ms, dense.value)], True)


def plot_tuning(metrics: Metrics) -> Laid:
    """Plot the metric on test samples over the epochs; the training loss where it was not judged.

    Where that was measured, the first point is the network before its first epoch.
    """
    kind, pruned = metrics.judged_by, metrics.pruned
    judged = [(one.epoch, one.test) for one in metrics.epochs if one.test is not None]
    if not metrics.epochs:
        return None
    if not judged:
        marks = [
            Mark(one.epoch, one.loss, f"epoch {one.epoch}: training loss {one.loss:.4g}")
            for one in metrics.epochs
        ]
        label, show = "training loss", None
    else:
        repaired = pruned.value_repaired is not None
        start = pruned.value_repaired if repaired else pruned.value_before_finetune
        points = [(0, start), *judged] if start is not None else judged
        marks = [Mark(x, y, f"epoch {x}: {kind.name} {kind.format(y)}") for x, y in points]
        label, show = kind.name, kind.format
    plot = Plot("Tuning", "epochs", label, marks, [(m.x, m.y) for m in marks])
    return lay_out(plot) if show is None else lay_out(plot, show)


def plot_runs(rows: Sequence[tuple[str, Metrics]]) -> list[dict[str, Any]]:
    """Plot the networks of several RUNs over their latencies, a plot for each metric of theirs.

    rows are (name, figures). Where nothing was judged, what is plotted are parameters.
    """
    kinds = {m.judged_by.key: m.judged_by for _, m in rows if m.pruned.value is not None}
    plots = []
    for key, kind in kinds.items():
        own = [(name, m) for name, m in rows if m.judged_by.key == key]
        pruned: list[_Side] = [(name, m.pruned.latency_ms, m.pruned.value) for name, m in own]
        dense: list[_Side] = [
            (f"{name}, dense", m.dense.latency_ms, m.dense.value) for name, m in own
        ]
        plots.append(_plot_sides(kind, pruned, dense))
    if not kinds:
        marks = [
            Mark(
                m.pruned.latency_ms, m.pruned.parameters,
                f"{name}: {m.pruned.latency_ms:.4g} ms, {m.pruned.parameters:,} parameters",
                label=name,
            )
            for name, m in rows
            if m.pruned.latency_ms is not None
        ]  # fmt: skip
        plots.append(lay_out(Plot("Parameters over latency", _MEASURED, "parameters", marks)))
    return [plot for plot in plots if plot is not None]


def _plot_sides(
    kind: MetricKind, pruned: Sequence[_Side], dense: Sequence[_Side], joined: bool = False
) -> Laid:
    """Plot values of a metric over latencies, where both were measured; joined by a line or not.

    None where no pruned network was measured and judged.
    """
    marks = [
        Mark(x, y, f"{name}: {x:.4g} ms, {kind.name} {kind.format(y)}", style, name)
        for style, sides in (("kept", pruned), ("mark", dense))
        for name, x, y in sides
        if x is not None and y is not None
    ]
    if not any(mark.kind == "kept" for mark in marks):
        return None
    title = f"{kind.name[0].upper()}{kind.name[1:]} over latency"
    line = sorted((m.x, m.y) for m in marks) if joined else ()
    return lay_out(Plot(title, _MEASURED, kind.name, marks, line), kind.format)


def _say_error(what: str, predicted_ms: float, measured_ms: float) -> str:
    off = predicted_ms / measured_ms - 1
    return f"{what}: predicted {predicted_ms:.4g} ms, measured {measured_ms:.4g} ms, {off:+.1%}"
