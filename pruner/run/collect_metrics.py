"""Collects the figures of a solve: structure and proof, and what was timed in turn."""

from torch import fx, nn

import latency_tables
from latency_tables import LatencyTable, Probe, Timing

from ..problem import Constraints
from ..search import Choice
from .context import Workspace
from .metrics import (
    DenseMetrics,
    LimitMetrics,
    Metrics,
    PrunedMetrics,
    RoundMetrics,
    SolverMetrics,
    StructureMetrics,
)


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
    space: Workspace,
    budget_ms: float,
    choice: Choice,
    small: nn.Module,
    constraints: Constraints,
    structure: StructureMetrics,
) -> Metrics:
    """Gather what a solve found out; latencies are the table's until `add_timings`."""
    net, table, best = space.net, choice.table, choice.best
    solution = best.solution
    also = tuple(
        LimitMetrics(
            resource=one.name,
            budget=one.text,
            limit=one.to_amount(net),
            dense=one.measure(net),
            pruned=one.measure(net, best.plan.sizes(), best.plan.dropped_blocks()),
        )
        for one in constraints.limits
    )
    metrics = Metrics(
        budget=space.config.budgets[0],
        budget_ms=budget_ms,
        device=str(table.device),
        submodule=space.config.submodule,
        table=_describe_table(table),
        dense=DenseMetrics(
            latency_ms=table.uncut_ms(net), parameters=_parameters(net.module), value=None
        ),
        pruned=PrunedMetrics(
            latency_ms=None,
            predicted_ms=best.predicted_ms,
            parameters=_parameters(small),
            value_before_finetune=None,
            value=None,
        ),
        solver=SolverMetrics(
            status=str(solution.status),
            advice=solution.status.advice,
            value=solution.value,
            bound=solution.bound,
            gap=solution.gap,
            seconds=solution.seconds,
            method=solution.method,
            budget_ms=best.asked_ms,
        ),
        check=tuple(
            RoundMetrics(predicted_ms=r.predicted_ms, measured_ms=r.measured_ms)
            for r in choice.rounds
            if r.measured_ms is not None
        ),
        warning=choice.warning,
        structure=structure,
    )
    return metrics.model_copy(update={"also": also}) if also else metrics


def add_timings(metrics: Metrics, timings: dict[str, Timing]) -> Metrics:
    """Return the same with measured latencies of ``"dense"`` and ``"pruned"``, timed in turn.

    A budget in percent is a share of the dense latency of that very comparison.
    """
    sides = {}
    for name, timing in timings.items():
        figures = {each: getattr(timing, each) for each in ("spread_ms", "interval_ms", "runs")}
        figures["latency_ms"] = timing.median_ms
        sides[name] = getattr(metrics, name).model_copy(update=figures)
    budget_ms = metrics.budget_ms
    if metrics.budget.unit == "%":
        budget_ms = metrics.budget.to_ms(sides["dense"].latency_ms, batch=1)
    return metrics.model_copy(update={**sides, "budget_ms": budget_ms})


def _describe_table(table: LatencyTable) -> str:
    error = [f"off by {table.error}"] if table.error is not None else []
    return "; ".join([f"{len(table.readings)} structures measured in place", *error, *table.notes])


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
