"""What each step says at its end, in a few lines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latency_tables import LatencyTable

from ..tasks import MetricKind
from .context import Workspace
from .metrics import Metrics, find_value


@dataclass(frozen=True)
class Outcome:
    """What a step leaves: text for people, and the same as plain data."""

    text: str
    data: Mapping[str, Any]

    def __str__(self) -> str:
        return self.text


def summarize_table(space: Workspace, table: LatencyTable) -> Outcome:
    """Summarize a latency table and what of the network it is of."""
    net, out = space.net, space.base.path
    uncut = table.uncut_ms(net)
    lines = [
        f"{net.name}: {uncut:.4g} ms dense, on {table.device}",
        f"  {len(net.dims)} dims, {len(net.blocks)} blocks, {len(net.cells())} cells; "
        f"{len(table.readings)} structures measured",
    ]
    if table.error is not None:
        lines.append(f"  predictions are off by {table.error}")
    lines += [f"  note: {note}" for note in table.notes]
    if net.fixed_batch is not None:
        lines.append(f"  note: it runs with a batch of {net.fixed_batch} only, as it was traced")
    lines += [f"  note: {note}" for note in net.program.notes]
    if net.frozen:
        lines.append(f"  {len(net.frozen)} parts cannot be cut: msprune inspect tells which")
    lines.append(f"  table: {out / 'latency.parquet'}")
    return Outcome("\n".join(lines), {"dense_ms": uncut, "device": str(table.device)})


def summarize_solve(out: Path, metrics: Metrics) -> Outcome:
    """Summarize a chosen structure and its proof."""
    dense, pruned, solver = metrics.dense, metrics.pruned, metrics.solver
    dims, blocks = metrics.structure.dims, metrics.structure.blocks
    gone = [block.name for block in blocks if not block.kept]
    lines = [
        f"{metrics.budget} = {metrics.budget_ms:.4g} ms: {_describe_latency(metrics)}",
        f"  {solver.status} (gap {solver.gap:.2g}) in {solver.seconds:.2f} s; "
        f"{sum(dim.kept for dim in dims)} of {sum(dim.size for dim in dims)} channels and "
        f"{len(blocks) - len(gone)} of {len(blocks)} blocks stay; parameters "
        f"{dense.parameters:,} -> {pruned.parameters:,}",
    ]
    if gone:
        lines.append(f"  dropped: {', '.join(gone)}")
    lines += [
        f"  {one.resource}={one.budget}: {_format_amount(one.pruned)} of at most "
        f"{_format_amount(one.limit)}, dense {_format_amount(one.dense)}"
        for one in metrics.also
    ]
    if metrics.warning:
        lines.append(f"  warning: {metrics.warning}")
    load = f"in Python: pruner.load({str(out)!r})"
    if metrics.submodule is not None:
        lines.append(
            f"  latencies, parameters and limits are of {metrics.part} alone{_tell_whole(metrics)}"
        )
        load += f", the whole model with {metrics.part} pruned"
    lines.append(f"  network: {out / 'model.safetensors'} ({load})")
    return _outcome("\n".join(lines), metrics)


def summarize_finetune(metrics: Metrics) -> Outcome:
    """Summarize the metric: as cut, repaired, tuned, and of the dense network."""
    lines = [f"{metrics.budget}: {_describe_values(metrics, metrics.judged_by)}"]
    lines += [f"  {_describe_values(metrics, kind)}" for kind in metrics.other_metrics]
    return _outcome("\n".join(lines), metrics)


def _describe_values(metrics: Metrics, kind: MetricKind) -> str:
    """Return the values of one metric in words: as cut, repaired, tuned, and dense."""
    dense, pruned = metrics.dense, metrics.pruned
    parts = [
        ("", find_value(metrics, kind, pruned, "_before_finetune"), " as cut"),
        (", ", find_value(metrics, kind, pruned, "_repaired"), " repaired"),
        (", ", find_value(metrics, kind, pruned), " after fine-tuning"),
        ("; dense ", find_value(metrics, kind, dense), ""),
        (", ", find_value(metrics, kind, dense, "_after_same_finetune"),
         " after the same fine-tune"),
    ]  # fmt: skip
    known = "".join(f"{a}{kind.format(value)}{b}" for a, value, b in parts if value is not None)
    better = "" if kind.higher_is_better else " (lower is better)"
    return f"{kind.name}{better} {known}"


def summarize_bench(metrics: Metrics) -> Outcome:
    """Summarize a comparison of the dense and the pruned network, timed in turn."""
    dense, pruned = metrics.dense, metrics.pruned
    assert pruned.latency_ms is not None  # a comparison has measured both
    off = pruned.latency_ms / pruned.predicted_ms - 1
    lines = [f"{metrics.budget} = {metrics.budget_ms:.4g} ms: {_describe_latency(metrics)}"]
    for name, side in (("dense", dense), ("pruned", pruned)):
        lines.append(
            f"  {name}: median {side.latency_ms:.4g} ms +- {side.interval_ms:.2g} (95%), "
            f"interquartile range {side.spread_ms:.2g} ms, {side.runs} runs in turn"
        )
    lines.append(f"  predicted: {pruned.predicted_ms:.4g} ms, measured {off:+.1%} from it")
    lines.append(f"  on {metrics.device}")
    return _outcome("\n".join(lines), metrics)


def summarize_budgets(rows: Sequence[Metrics]) -> str:
    """Lay out several budgets as a table, the dense network below it."""
    kind = rows[0].judged_by
    head = ("budget", "budget ms", "predicted", "measured", "speed-up", "as cut", kind.name, "gap")
    table = [head]
    for metrics in rows:
        pruned, speedup = metrics.pruned, metrics.speedup
        table.append(
            (
                str(metrics.budget),
                f"{metrics.budget_ms:.4g}",
                f"{pruned.predicted_ms:.4g}",
                f"{pruned.latency_ms:.4g}" if pruned.latency_ms else "-",
                f"{speedup:.2f}x" if speedup else "-",
                _format_value(pruned.value_before_finetune, kind),
                _format_value(pruned.value, kind),
                f"{metrics.solver.gap:.1g}",
            )
        )
    widths = [max(len(row[k]) for row in table) for k in range(len(head))]
    lines = ["  ".join(text.rjust(width) for text, width in zip(row, widths)) for row in table]
    dense = rows[0].dense
    timed = f"dense: {dense.latency_ms:.4g} ms, {kind.name} {_format_value(dense.value, kind)}"
    if (reference := dense.value_after_same_finetune) is not None:
        timed += f", {kind.format(reference)} after the same fine-tune"
    return "\n".join([*lines, f"{timed}; {rows[0].device}"])


def _outcome(text: str, metrics: Metrics) -> Outcome:
    return Outcome(text, metrics.to_data())


def _describe_latency(metrics: Metrics) -> str:
    dense_ms, pruned = metrics.dense.latency_ms, metrics.pruned
    known = f"{pruned.predicted_ms:.4g} ms predicted, not measured"
    if pruned.latency_ms is not None:
        timed = f"{pruned.latency_ms:.4g} ms measured ({pruned.predicted_ms:.4g} predicted)"
        known = f"{timed}, {metrics.speedup:.2f} times as fast"
    return f"dense {dense_ms:.4g} ms, pruned {known}"


def _tell_whole(metrics: Metrics) -> str:
    """Return the time of the whole model around a part, where it is known."""
    whole = metrics.whole
    if whole is None:
        return ""
    return (
        f"; the whole model by torch: {whole.dense_ms:.4g} -> {whole.pruned_ms:.4g} ms "
        f"(median of {whole.runs})"
    )


def _format_value(value: float | None, kind: MetricKind) -> str:
    return "-" if value is None else kind.format(value)


def _format_amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
