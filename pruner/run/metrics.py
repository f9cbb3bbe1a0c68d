"""metrics.json: the figures of one budget, in one type from where made to where shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from torch import fx, nn

import latency_tables
from latency_tables import LatencyTable, Probe, Timing

from ..errors import PrunerError
from ..problem import Constraints
from ..search import Choice
from ..tasks import DEFAULT, MetricKind
from .config import WrittenBudget
from .context import Workspace

USUAL = DEFAULT().judge().kind
"""The metric of files that do not say which it is."""
_SIDES = ("dense", "pruned")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class NetworkMetrics(_Record):
    """Figures of one network, dense or pruned; None where nothing was measured.

    Latencies are in milliseconds a batch: the median, the interquartile range and the half width of
    the median's 95% interval of so many runs. Values are of the task's metric.
    """

    latency_ms: float | None = None
    parameters: int
    value: float | None = None
    spread_ms: float | None = None
    interval_ms: float | None = None
    runs: int | None = None


class DenseMetrics(NetworkMetrics):
    """The dense network; optionally after the very fine-tune that the pruned one got."""

    value_after_same_finetune: float | None = None


class PrunedMetrics(NetworkMetrics):
    """The pruned network: predicted by the table, as cut, as repaired, and in the end."""

    predicted_ms: float
    value_before_finetune: float | None = None
    value_repaired: float | None = None


class SolverMetrics(_Record):
    """The proof: why the solver stopped, what it holds, and the budget in its costs."""

    status: str
    advice: str
    value: float
    bound: float
    gap: float
    seconds: float
    method: str
    budget_ms: float


class LimitMetrics(_Record):
    """A further budget: what it is of, as written and in its unit, and what was kept of dense."""

    resource: str
    budget: str
    limit: float
    dense: float
    pruned: float


class RoundMetrics(_Record):
    """A structure that was measured on the device, against what the table had said of it."""

    predicted_ms: float
    measured_ms: float


class DimMetrics(_Record):
    """A Dim: how many of its indices stay."""

    name: str
    kind: str
    size: int
    kept: int


class BlockMetrics(_Record):
    """A Block: whether it stays."""

    name: str
    kept: bool


class CellMetrics(_Record):
    """A cell's milliseconds by the table, before and after; 0 where it was dropped."""

    name: str
    dense_ms: float
    pruned_ms: float


class WholeMetrics(_Record):
    """The whole model around a pruned part, run by torch: medians of so many runs in turn."""

    dense_ms: float
    pruned_ms: float
    runs: int


class FrozenMetrics(_Record):
    """A reason why axes stay whole, of which tensors in words, and how many numbers it locks."""

    reason: str
    tensors: str
    locked: int


class EpochMetrics(_Record):
    """An epoch of the tuning: mean training loss, and the metric on test samples where judged."""

    epoch: int
    loss: float
    test: float | None = None


class StructureMetrics(_Record):
    """What stays of the network, and what could not go."""

    dims: tuple[DimMetrics, ...]
    blocks: tuple[BlockMetrics, ...]
    cells: tuple[CellMetrics, ...]
    frozen: tuple[FrozenMetrics, ...] = ()


class Metrics(_Record):
    """All figures of one budget.

    In metrics.json a value stands under the metric's own name: ``mean_iou``, ``mean_iou_repaired``.
    """

    budget: WrittenBudget
    budget_ms: float
    device: str
    submodule: str | None = None
    table: str
    dense: DenseMetrics
    pruned: PrunedMetrics
    solver: SolverMetrics
    check: tuple[RoundMetrics, ...]
    warning: str
    structure: StructureMetrics
    finetune: str | None = None
    also: tuple[LimitMetrics, ...] = ()
    metric: MetricKind | None = None
    whole: WholeMetrics | None = None
    epochs: tuple[EpochMetrics, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _read_names(cls, content: Any) -> Any:
        """Read values under the metric's name; files of before tasks do not say which it is."""
        if not isinstance(content, Mapping):
            return content
        metric = content.get("metric")
        name = MetricKind(**metric).key if isinstance(metric, Mapping) else USUAL.key
        return {
            k: rename_figures(v, name, "value") if k in _SIDES and isinstance(v, Mapping) else v
            for k, v in content.items()
        }

    @property
    def judged_by(self) -> MetricKind:
        """What the values mean."""
        return self.metric or USUAL

    @property
    def speedup(self) -> float | None:
        """Dense latency over measured pruned latency; None where that was not measured."""
        dense_ms, timed_ms = self.dense.latency_ms, self.pruned.latency_ms
        return None if dense_ms is None or timed_ms is None else dense_ms / timed_ms

    def to_json(self) -> str:
        """Return the text of metrics.json; figures that were never asked for are left out."""
        return json.dumps(self.to_data(), indent=1, ensure_ascii=False) + "\n"

    def to_data(self) -> dict[str, Any]:
        """Return what metrics.json holds."""
        content = json.loads(self.model_dump_json(exclude_unset=True))
        for side in _SIDES:
            content[side] = rename_figures(content[side], "value", self.judged_by.key)
        return content

    @classmethod
    def load(cls, path: Path) -> Metrics:
        """Read metrics.json; PrunerError where the file holds something else."""
        try:
            return cls.model_validate(json.loads(path.read_bytes()))
        except ValueError as error:
            if not isinstance(error, ValidationError):
                raise PrunerError(f"{path}: {error}; run solve again to make it anew") from None
            first = error.errors()[0]
            said = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise PrunerError(f"{path}: {said}; run solve again to make it anew") from None

    def with_metric(self, kind: MetricKind) -> Metrics:
        """Return the same with values of this kind; what was measured by another is left out."""
        if kind == self.judged_by:
            return self
        forgotten = [
            side.model_copy(update={k: None for k in type(side).model_fields if _is_value(k)})
            for side in (self.dense, self.pruned)
        ]
        metric = None if kind == USUAL else kind
        return self.model_copy(update={**dict(zip(_SIDES, forgotten)), "metric": metric})

    def with_dense(self, **figures: float | None) -> Metrics:
        """Return the same with some figures of the dense network replaced."""
        return self.model_copy(update={"dense": self.dense.model_copy(update=figures)})

    def with_pruned(self, **figures: float | None) -> Metrics:
        """Return the same with some figures of the pruned network replaced."""
        return self.model_copy(update={"pruned": self.pruned.model_copy(update=figures)})


def rename_figures(figures: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
    """Return figures with other names: old and ``old_...`` become new and ``new_...``."""
    return {
        new + k.removeprefix(old) if k == old or k.startswith(f"{old}_") else k: v
        for k, v in figures.items()
    }


def _is_value(name: str) -> bool:
    return name == "value" or name.startswith("value_")


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
