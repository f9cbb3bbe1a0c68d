"""What each step says at its end, in a few lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latency_tables import LatencyTable

    from .context import Workspace


@dataclass(frozen=True)
class Outcome:
    """What a step leaves: text for people, and the same as plain data."""

    text: str
    data: Mapping[str, Any]

    def __str__(self) -> str:
        return self.text


def summarize_table(space: Workspace, table: LatencyTable) -> Outcome:
    """Of the latency table."""
    from .metrics import dense_ms

    net, out = space.net, space.base.path
    uncut = dense_ms(net, table)
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


def summarize_solve(out: Path, metrics: Mapping[str, Any]) -> Outcome:
    """Of a chosen structure."""
    dense, pruned, solver = metrics["dense"], metrics["pruned"], metrics["solver"]
    structure = metrics["structure"]
    kept = sum(dim["kept"] for dim in structure["dims"])
    size = sum(dim["size"] for dim in structure["dims"])
    gone = [block["name"] for block in structure["blocks"] if not block["kept"]]
    lines = [f"{metrics['budget']} = {metrics['budget_ms']:.4g} ms: {_latency(metrics)}"]
    lines.append(
        f"  {solver['status']} (gap {solver['gap']:.2g}) in {solver['seconds']:.2f} s; "
        f"{kept} of {size} channels and {len(structure['blocks']) - len(gone)} of "
        f"{len(structure['blocks'])} blocks stay; parameters {dense['parameters']:,} -> "
        f"{pruned['parameters']:,}"
    )
    if gone:
        lines.append(f"  dropped: {', '.join(gone)}")
    if metrics["warning"]:
        lines.append(f"  warning: {metrics['warning']}")
    load, part = f"pruner.load({str(out)!r})", metrics.get("submodule")
    if part is not None:
        lines.append(f"  all figures are of {part!r} alone; in its place again:")
        load = f"pruner.splice(model, {part!r}, {load})"
    lines.append(f"  network: {out / 'model.safetensors'} (in Python: {load})")
    return Outcome("\n".join(lines), metrics)


def summarize_finetune(out: Path, metrics: Mapping[str, Any]) -> Outcome:
    """Of a fine-tune."""
    dense, pruned = metrics["dense"], metrics["pruned"]
    text = (
        f"{metrics['budget']}: accuracy {pruned['accuracy_before_finetune']:.1%} as cut, "
        + (f"{pruned['accuracy_repaired']:.1%} repaired, " if "accuracy_repaired" in pruned else "")
        + f"{pruned['accuracy']:.1%} after fine-tuning; dense {dense['accuracy']:.1%}"
    )
    if dense.get("accuracy_after_same_finetune") is not None:
        text += f", {dense['accuracy_after_same_finetune']:.1%} after the same fine-tune"
    return Outcome(text, metrics)


def summarize_bench(out: Path, metrics: Mapping[str, Any]) -> Outcome:
    """Of a comparison of dense and pruned."""
    pruned = metrics["pruned"]
    off = pruned["latency_ms"] / pruned["predicted_ms"] - 1
    lines = [f"{metrics['budget']} = {metrics['budget_ms']:.4g} ms: {_latency(metrics)}"]
    for name in ("dense", "pruned"):
        side = metrics[name]
        lines.append(
            f"  {name}: median {side['latency_ms']:.4g} ms +- {side['interval_ms']:.2g} (95%), "
            f"interquartile range {side['spread_ms']:.2g} ms, {side['runs']} runs in turn"
        )
    lines.append(f"  predicted: {pruned['predicted_ms']:.4g} ms, measured {off:+.1%} from it")
    lines.append(f"  on {metrics['device']}")
    return Outcome("\n".join(lines), metrics)


def summarize_budgets(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of the budgets."""
    head = ("budget", "budget ms", "predicted", "measured", "speed-up", "as cut", "accuracy", "gap")
    table = [head]
    for metrics in rows:
        dense, pruned = metrics["dense"], metrics["pruned"]
        timed = pruned["latency_ms"]
        table.append(
            (
                metrics["budget"],
                f"{metrics['budget_ms']:.4g}",
                f"{pruned['predicted_ms']:.4g}",
                f"{timed:.4g}" if timed else "-",
                f"{dense['latency_ms'] / timed:.2f}x" if timed else "-",
                _percent(pruned["accuracy_before_finetune"]),
                _percent(pruned["accuracy"]),
                f"{metrics['solver']['gap']:.1g}",
            )
        )
    widths = [max(len(row[k]) for row in table) for k in range(len(head))]
    lines = ["  ".join(text.rjust(width) for text, width in zip(row, widths)) for row in table]
    dense = rows[0]["dense"]
    timed = f"dense: {dense['latency_ms']:.4g} ms, accuracy {_percent(dense['accuracy'])}"
    if dense.get("accuracy_after_same_finetune") is not None:
        timed += f", {_percent(dense['accuracy_after_same_finetune'])} after the same fine-tune"
    return "\n".join([*lines, f"{timed}; {rows[0]['device']}"])


def _latency(metrics: Mapping[str, Any]) -> str:
    dense, pruned = metrics["dense"]["latency_ms"], metrics["pruned"]
    timed = pruned["latency_ms"]
    if timed is None:
        return (
            f"dense {dense:.4g} ms, pruned {pruned['predicted_ms']:.4g} ms predicted, not measured"
        )
    return (
        f"dense {dense:.4g} ms, pruned {timed:.4g} ms measured ({pruned['predicted_ms']:.4g} "
        f"predicted), {dense / timed:.2f} times as fast"
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
