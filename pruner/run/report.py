"""report.html: what was asked, what was got, and how it is known, in one self-contained file."""

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import pandas as pd
import yaml

from latency_tables import LatencyTable

from ..models import describe_weights
from ..tasks import MetricKind, describe_choice
from .metrics import Metrics, NetworkMetrics, find_value
from .model_input import describe_input
from .report_plots import plot_frontier, plot_runs, plot_table, plot_tuning, plot_values
from .tracing import read_parts

_MOST_CELLS = 48


def render_report(
    state: Mapping[str, Any],
    metrics: Metrics,
    table: LatencyTable | None = None,
    frontier: pd.DataFrame | None = None,
) -> str:
    """Render the report of one budget, from run.json, its figures, and what else the RUN holds.

    Where they are given, the table's predictions are shown against what was measured, and this
    structure among those of all budgets (rows of frontier.csv).
    """
    structure = metrics.structure
    slowest = sorted(structure.cells, key=lambda cell: -cell.dense_ms)[:_MOST_CELLS]
    names = {cell.name for cell in slowest}
    return _environment().get_template("report.html.j2").render(
        config=state["config"],
        m=metrics,
        tiles=_list_tiles(metrics),
        figures=_list_figures(metrics),
        cells=[cell for cell in structure.cells if cell.name in names],
        trade=None if frontier is None else plot_frontier(frontier, metrics),
        errors=None if table is None else plot_table(table, metrics),
        tuning=plot_tuning(metrics),
        settings=yaml.safe_dump(_simplify(state["config"]), sort_keys=False, allow_unicode=True),
        proof=_list_proof(metrics),
        provenance=_list_provenance(state, metrics),
    )  # fmt: skip


def render_overview(state: Mapping[str, Any], rows: Sequence[tuple[str, Metrics]]) -> str:
    """Render the report of several budgets; rows are (sub-folder, figures)."""
    first = rows[0][1]
    return _environment().get_template("overview.html.j2").render(
        model=state["config"]["model"], device=first.device, dense=first.dense, rows=rows,
        kind=first.judged_by,
        plots=[one for one in (plot_values([metrics for _, metrics in rows]),) if one],
    )  # fmt: skip


def render_comparison(rows: Sequence[tuple[str, str, Metrics]]) -> str:
    """Render networks of several RUNs side by side; rows are (name, MODEL, figures)."""
    plots = plot_runs([(name, metrics) for name, _, metrics in rows])
    return _environment().get_template("comparison.html.j2").render(
        rows=rows, devices=sorted({metrics.device for *_, metrics in rows}), plots=plots,
    )  # fmt: skip


def _environment() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(
        ms=_format_ms, value=_format_value, timed=_format_timing, times=_format_factor,
        proof=_format_status,
    )  # fmt: skip
    return found


def _list_tiles(metrics: Metrics) -> list[tuple[str, str]]:
    dense, pruned = metrics.dense, metrics.pruned
    timed = pruned.latency_ms is not None
    shown = pruned.latency_ms if timed else pruned.predicted_ms
    word = "measured" if timed else "predicted, not measured"
    budget = f"the budget was {_format_ms(metrics.budget_ms)} ms"
    tiles = [
        (f"{_format_ms(dense.latency_ms)} → {_format_ms(shown)} ms", f"dense → pruned, {word}"),
        (_format_factor(metrics.speedup), f"faster; {budget}"),
    ]
    kind = metrics.judged_by
    if pruned.value is not None:
        label = f"{_name_metric(kind)}; dense {_format_value(dense.value, kind)}"
        reference = dense.value_after_same_finetune
        if reference is not None:
            label += f", {_format_value(reference, kind)} after the same fine-tune"
        tiles.append((_format_value(pruned.value, kind), label))
    return [*tiles, (_format_status(metrics.solver.status), f"gap {metrics.solver.gap:.2g}")]


def _list_figures(metrics: Metrics) -> list[tuple[str, str, str]]:
    dense, pruned = metrics.dense, metrics.pruned
    rows = [
        (
            "latency measured, ms (median ± interquartile range)",
            _format_timing(dense),
            _format_timing(pruned),
        ),
        ("timed runs", str(dense.runs or "–"), str(pruned.runs or "–")),
        ("latency predicted, ms", "", _format_ms(pruned.predicted_ms)),
        *(
            (
                f"the whole model by torch, ms (median of {w.runs})",
                _format_ms(w.dense_ms),
                _format_ms(w.pruned_ms),
            )
            for w in (metrics.whole,)
            if w is not None
        ),
        ("parameters", f"{dense.parameters:,}", f"{pruned.parameters:,}"),
        *(
            (f"{o.resource}, at most {o.limit:,.4g}", f"{o.dense:,.4g}", f"{o.pruned:,.4g}")
            for o in metrics.also
        ),
    ]
    for kind in (metrics.judged_by, *metrics.other_metrics):
        rows += _list_values(metrics, kind)
    return rows


def _list_values(metrics: Metrics, kind: MetricKind) -> list[tuple[str, str, str]]:
    """Return the rows of one metric: as cut, repaired if it was, and after fine-tuning."""
    name = _name_metric(kind)

    def show(side: NetworkMetrics, suffix: str = "") -> str:
        return _format_value(find_value(metrics, kind, side, suffix), kind)

    dense, pruned = metrics.dense, metrics.pruned
    rows = [
        (f"{name} as cut", show(dense), show(pruned, "_before_finetune")),
        (f"{name} repaired", "", show(pruned, "_repaired")),
        (f"{name} after fine-tuning", show(dense, "_after_same_finetune"), show(pruned)),
    ]
    return [row for row in rows if row[0] != f"{name} repaired" or row[2] != "–"]


def _list_proof(metrics: Metrics) -> list[tuple[str, str]]:
    solver = metrics.solver
    kept = f"{solver.value:.6g}, and at most {solver.bound:.6g} is possible"
    return [
        ("status", f"{_format_status(solver.status)}: {solver.advice}"),
        ("importance kept", kept),
        ("gap", f"{solver.gap:.3g}"),
        ("budget in the last solve", f"{_format_ms(solver.budget_ms)} ms"),
        ("solve time", f"{solver.seconds:.2f} s, {solver.method}"),
    ]


def _list_provenance(state: Mapping[str, Any], metrics: Metrics) -> list[tuple[str, str]]:
    config, identity = state["config"], state["identity"]
    weights = describe_weights(identity["model"], identity["weights"])
    return [
        ("network", f"{_name_network(identity)}, input {describe_input(identity['input'])}"),
        ("weights", f"{weights} (state {identity['digest'][:12]})"),
        ("device", metrics.device),
        ("latency table", metrics.table),
        ("task", describe_choice(config.get("task"))),
        ("importance", f"{config['score']['criterion']}, data {config['data'] or 'none'}"),
        ("fine-tune", metrics.finetune or "none"),
        ("seed", str(config["seed"])),
        ("versions", ", ".join(f"{name} {text}" for name, text in state["versions"].items())),
    ]


def _simplify(content: Any) -> Any:
    """Return settings as YAML takes them: lists for tuples, and without those that are none."""
    if isinstance(content, Mapping):
        return {k: _simplify(v) for k, v in content.items() if v is not None}
    return [_simplify(v) for v in content] if isinstance(content, list | tuple) else content


def _name_network(identity: Mapping[str, Any]) -> str:
    parts = " and ".join(read_parts(identity))
    return f"{identity['model']}, its {parts} alone" if parts else str(identity["model"])


def _format_ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _format_timing(side: NetworkMetrics) -> str:
    spread = f" ± {side.spread_ms:.2g}" if side.spread_ms is not None else ""
    return _format_ms(side.latency_ms) + (spread if side.latency_ms is not None else "")


def _format_value(value: float | None, kind: MetricKind) -> str:
    return "–" if value is None else kind.format(value)


def _name_metric(kind: MetricKind) -> str:
    return kind.name if kind.higher_is_better else f"{kind.name} (lower is better)"


def _format_factor(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}×"


def _format_status(status: str) -> str:
    return "proven optimal" if status == "optimal" else status
