"""metrics.json: the figures of one budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import latency_tables
from latency_tables import LatencyTable, Probe, Timing

from ..problem import Budget, predict
from ..search import Choice
from ..structure import Plan

if TYPE_CHECKING:
    from torch import fx, nn

    from ..structure import Network
    from .context import Workspace


def dense_ms(net: Network, table: LatencyTable) -> float:
    """The uncut network's latency, as the table has measured it: what percentages are of."""
    return table.uncut_ms(net)


def time_in_turn(space: Workspace, small: fx.GraphModule, runs: int) -> dict[str, Timing]:
    """Time the dense and the pruned network in turn: ``runs`` runs of each."""
    from ..graph import flatten_io, to_onnx

    def probe(whole: fx.GraphModule) -> Probe:
        module, inputs = flatten_io(whole, space.net.inputs)
        return Probe(module, inputs, lambda: to_onnx(module, inputs).SerializeToString(), {}, {})

    each = min(3, runs)
    probes = {"dense": probe(space.net.module), "pruned": probe(small)}
    return latency_tables.compare(space.engine, probes, -(-runs // each), runs=each)


def collect_metrics(
    space: Workspace, budget: Budget, budget_ms: float, choice: Choice, small: nn.Module
) -> dict[str, Any]:
    """What a solve found out; latencies are the table's until `add_timings`."""
    net, table, best = space.net, choice.table, choice.best
    solution = best.solution
    return {
        "budget": str(budget),
        "budget_ms": budget_ms,
        "device": str(table.device),
        "submodule": space.config.submodule,
        "table": _table_text(table),
        "dense": {
            "latency_ms": dense_ms(net, table),
            "parameters": _parameters(net.module),
            "accuracy": None,
        },
        "pruned": {
            "latency_ms": None,
            "predicted_ms": best.predicted_ms,
            "parameters": _parameters(small),
            "accuracy_before_finetune": None,
            "accuracy": None,
        },
        "solver": {
            "status": str(solution.status),
            "advice": solution.status.advice,
            "value": solution.value,
            "bound": solution.bound,
            "gap": solution.gap,
            "seconds": solution.seconds,
            "method": solution.method,
            "budget_ms": best.asked_ms,
        },
        "check": [
            {"predicted_ms": r.predicted_ms, "measured_ms": r.measured_ms}
            for r in choice.rounds
            if r.measured_ms is not None
        ],
        "warning": choice.warning,
        "structure": _structure(net, table, best.plan),
    }


def add_timings(metrics: dict[str, Any], timings: dict[str, Timing]) -> dict[str, Any]:
    """The same with measured latencies of both networks, timed in turn.

    A budget in percent is a share of the dense latency of that very comparison.
    """
    for name, timing in timings.items():
        metrics[name].update(
            latency_ms=timing.median_ms,
            spread_ms=timing.spread_ms,
            interval_ms=timing.interval_ms,
            runs=timing.runs,
        )
    budget = Budget.parse(metrics["budget"])
    if budget.unit == "%":
        metrics["budget_ms"] = budget.milliseconds(metrics["dense"]["latency_ms"])
    return metrics


def _structure(net: Network, table: LatencyTable, plan: Plan) -> dict[str, Any]:
    sizes, dropped = plan.sizes(), plan.dropped()
    widths = net.cell_sizes(sizes, dropped)
    dense_ms, pruned_ms = predict(net, table), predict(net, table, sizes, dropped)
    cells = []
    for cell in net.cells():
        before = float(table.predict(cell.spec, [cell.dense_sizes], dense_ms)[0])
        size = widths.get(cell.name)
        spec = cell.spec_at(dropped)
        after = float(table.predict(spec, [size], pruned_ms)[0]) if size is not None else 0.0
        cells.append({"name": cell.name, "dense_ms": before, "pruned_ms": after})
    return {
        "dims": [
            {
                "name": dim.name,
                "kind": dim.kind,
                "size": dim.size,
                "kept": sizes.get(dim.name, dim.size),
            }
            for dim in net.dims.values()
        ],
        "blocks": [{"name": name, "kept": name not in dropped} for name in net.blocks],
        "cells": cells,
    }


def _table_text(table: LatencyTable) -> str:
    text = f"{len(table.readings)} structures measured in place"
    if table.error is not None:
        text += f"; off by {table.error}"
    return "; ".join([text, *table.notes])


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
