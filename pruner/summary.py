"""What each step says at its end, in a few lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latency_tables import LatencyTable

    from .models import DenseModel
    from .network import Network
    from .workspace import Workspace


@dataclass(frozen=True)
class Outcome:
    """What a step leaves: text for people, and the same as plain data."""

    text: str
    data: Mapping[str, Any]

    def __str__(self) -> str:
        return self.text


def measured(space: Workspace, table: LatencyTable) -> Outcome:
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
    if net.frozen:
        lines.append(f"  {len(net.frozen)} parts cannot be cut: msprune inspect tells which")
    lines.append(f"  table: {out / 'latency.parquet'}")
    return Outcome("\n".join(lines), {"dense_ms": uncut, "device": str(table.device)})


def solved(out: Path, metrics: Mapping[str, Any]) -> Outcome:
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
    lines.append(f"  network: {out / 'model.safetensors'} (in Python: pruner.load({str(out)!r}))")
    return Outcome("\n".join(lines), metrics)


def finetuned(out: Path, metrics: Mapping[str, Any]) -> Outcome:
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


def benched(out: Path, metrics: Mapping[str, Any]) -> Outcome:
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


def overview(rows: Sequence[Mapping[str, Any]]) -> str:
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


def inspected(net: Network, dense: DenseModel) -> Outcome:
    """Of a traced network: its Dims, Blocks and Cells, and what is frozen."""
    from .cost import macs, parameters

    smallest = {name: dim.options()[0] for name, dim in net.dims.items()}
    blocks = tuple(net.blocks)
    shares = {
        "parameters": (parameters(net), parameters(net, smallest, blocks)),
        "MACs": (macs(net), macs(net, smallest, blocks)),
    }
    shape = "x".join(map(str, net.inputs[0].shape))
    lines = [f"{net.name}, input {shape}, {dense.weights or 'random'} weights"]
    for name, (whole, least) in shares.items():
        lines.append(f"  {name}: {whole:,}, of which {1 - least / max(whole, 1):.1%} can go")
    lines.append(f"\n{len(net.dims)} dims (coupled channels)")
    for dim in net.dims.values():
        tensors = sorted({slot.tensor for slot in dim.slots})
        lines.append(f"  {dim.name}: {dim.size} in steps of {dim.step}, in {len(tensors)} tensors")
    lines.append(f"\n{len(net.blocks)} blocks (removable branches)")
    lines += [
        f"  {block.name}" + (f", inside {', '.join(block.inside)}" if block.inside else "")
        for block in net.blocks.values()
    ]
    cells = net.cells()
    lines.append(f"\n{len(cells)} cells (what is timed)")
    lines += [f"  {cell.name}: {cell.spec}" for cell in cells]
    lines.append(f"\n{len(net.frozen)} frozen parts" + ("" if net.frozen else ": none"))
    for part in net.frozen:
        locked = f" (locks {_some(part.tensors)})" if part.tensors else ""
        lines.append(f"  {part.reason}{locked}")
    data = {
        "dims": {dim.name: dim.size for dim in net.dims.values()},
        "blocks": list(net.blocks),
        "cells": [cell.name for cell in cells],
        "frozen": [part.reason for part in net.frozen],
        "shares": {name: 1 - least / max(whole, 1) for name, (whole, least) in shares.items()},
    }
    return Outcome("\n".join(lines), data)


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


def _some(tensors: Sequence[str]) -> str:
    head = ", ".join(tensors[:3])
    return head if len(tensors) <= 3 else f"{head} and {len(tensors) - 3} more"
