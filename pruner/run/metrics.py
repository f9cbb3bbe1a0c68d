"""metrics.json: the figures of one budget, in one type from where made to where shown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from ..errors import PrunerError
from ..tasks import DEFAULT, MetricKind
from .config import WrittenBudget, list_parts

USUAL = DEFAULT().judge().kind
"""The metric of files that do not say which it is."""
_SIDES = ("dense", "pruned")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class NetworkMetrics(_Record):
    """Figures of one network, dense or pruned; None where nothing was measured.

    Latencies are in milliseconds a batch: the median, the interquartile range and the half width of
    the median's 95% interval of so many runs. Values are of the task's metric, others of those that
    go along with it, by their keys.
    """

    latency_ms: float | None = None
    parameters: int
    value: float | None = None
    others: dict[str, float] | None = None
    spread_ms: float | None = None
    interval_ms: float | None = None
    runs: int | None = None


class DenseMetrics(NetworkMetrics):
    """The dense network; optionally after the very fine-tune that the pruned one got."""

    value_after_same_finetune: float | None = None
    others_after_same_finetune: dict[str, float] | None = None


class PrunedMetrics(NetworkMetrics):
    """The pruned network: predicted by the table, as cut, as repaired, and in the end."""

    predicted_ms: float
    value_before_finetune: float | None = None
    value_repaired: float | None = None
    others_before_finetune: dict[str, float] | None = None
    others_repaired: dict[str, float] | None = None


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

    In metrics.json a value stands under the metric's own name: ``mean_iou``, ``mean_iou_repaired``;
    where that is another figure's (``latency``, ``runs``), under ``value``.
    """

    budget: WrittenBudget
    budget_ms: float
    device: str
    submodule: str | tuple[str, ...] | None = None
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
    other_metrics: tuple[MetricKind, ...] = ()
    whole: WholeMetrics | None = None
    epochs: tuple[EpochMetrics, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _read_names(cls, content: Any) -> Any:
        """Read values under the metric's name; files of before tasks do not say which it is."""
        if not isinstance(content, Mapping):
            return content
        metric = content.get("metric")
        kind = MetricKind(**metric) if isinstance(metric, Mapping) else USUAL
        name = find_written_name(kind)
        return {
            k: rename_figures(v, name, "value") if k in _SIDES and isinstance(v, Mapping) else v
            for k, v in content.items()
        }

    @property
    def judged_by(self) -> MetricKind:
        """What the values mean."""
        return self.metric or USUAL

    @property
    def part(self) -> str:
        """What of the model was pruned, in words; "" for all of it."""
        return " and ".join(list_parts(self.submodule))

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
            name = find_written_name(self.judged_by)
            content[side] = rename_figures(content[side], "value", name)
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

    def with_metrics(self, kinds: Sequence[MetricKind]) -> Metrics:
        """Return the same with values of these kinds, the main one first.

        What was measured by others is left out.
        """
        kind, others = kinds[0], tuple(kinds[1:])
        if (kind, others) == (self.judged_by, self.other_metrics):
            return self
        forgotten = [
            side.model_copy(update={k: None for k in _list_values(side)})
            for side in (self.dense, self.pruned)
        ]
        update: dict[str, Any] = {"metric": None if kind == USUAL else kind}
        if others or self.other_metrics:
            update["other_metrics"] = others
        return self.model_copy(update={**dict(zip(_SIDES, forgotten)), **update})

    def without_values(self) -> Metrics:
        """Return the same with no value of any metric, as before a fine-tune."""
        sides = {
            name: side.model_copy(
                update={k: None for k in _list_values(side) if k in side.model_fields_set}
            )
            for name, side in zip(_SIDES, (self.dense, self.pruned))
        }
        return self.model_copy(update=sides)

    def with_dense(self, **figures: Any) -> Metrics:
        """Return the same with some figures of the dense network replaced."""
        return self.model_copy(update={"dense": self.dense.model_copy(update=figures)})

    def with_pruned(self, **figures: Any) -> Metrics:
        """Return the same with some figures of the pruned network replaced."""
        return self.model_copy(update={"pruned": self.pruned.model_copy(update=figures)})


def find_written_name(kind: MetricKind) -> str:
    """Return what a metric's values are called in metrics.json: its key, or ``value``.

    A key that a figure of another meaning begins with, such as ``latency``, could not be told from
    it when the file is read.
    """
    fields = {*DenseMetrics.model_fields, *PrunedMetrics.model_fields}
    taken = not kind.key or any(f"{name}_".startswith(f"{kind.key}_") for name in fields)
    return "value" if taken else kind.key


def rename_figures(figures: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
    """Return figures with other names: old and ``old_...`` become new and ``new_...``."""
    return {
        new + k.removeprefix(old) if k == old or k.startswith(f"{old}_") else k: v
        for k, v in figures.items()
    }


def name_figures(values: Mapping[str, float], key: str, suffix: str = "") -> dict[str, Any]:
    """Return measured values as fields of `NetworkMetrics`.

    Args:
        values: Of all metrics, by their keys.
        key: Of the main one.
        suffix: What the fields have behind their names, such as ``"_repaired"``.
    """
    others = {name: value for name, value in values.items() if name != key}
    named: dict[str, Any] = {f"value{suffix}": values[key]}
    return named | ({f"others{suffix}": others} if others else {})


def find_value(
    metrics: Metrics, kind: MetricKind, side: NetworkMetrics, suffix: str = ""
) -> float | None:
    """Return the value of a metric, the main one or another; None where it was not measured."""
    if kind == metrics.judged_by:
        return getattr(side, f"value{suffix}")  # type: ignore[no-any-return]
    others = getattr(side, f"others{suffix}") or {}
    return others.get(kind.key)


def _list_values(side: NetworkMetrics) -> list[str]:
    """Return the fields that hold values of metrics; of further ones those that were set."""
    fields = [name for name in type(side).model_fields if name.split("_")[0] == "value"]
    return fields + [name for name in side.model_fields_set if name.split("_")[0] == "others"]
