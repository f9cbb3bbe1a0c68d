"""metrics.json is read as it was written, whatever a task calls its metric."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pruner.run.metrics import Metrics, name_figures
from pruner.tasks import MetricKind

from .test_report import METRICS


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("mean IoU", "mean_iou"), ("latency", "value"), ("Latency ms", "value"), ("runs", "value"),
        ("parameters", "value"), ("predicted", "value"), ("others", "value"), ("value", "value"),
        ("%", "value"), ("точность", "точность"), ("late", "late"),
    ],
)  # fmt: skip
def test_values_come_back(name: str, field: str, tmp_path: Path) -> None:
    kind = MetricKind(name)
    plain = Metrics.model_validate(METRICS).with_metrics((kind,))
    metrics = plain.with_dense(**name_figures({kind.key: 0.25}, kind.key)).with_pruned(
        **name_figures({kind.key: 0.5}, kind.key, "_repaired")
    )
    path = tmp_path / "metrics.json"
    path.write_text(metrics.to_json(), encoding="utf-8")
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written["dense"][field] == 0.25 and written["pruned"][f"{field}_repaired"] == 0.5
    again = Metrics.load(path)
    assert (again.dense.value, again.pruned.value_repaired) == (0.25, 0.5)
    assert again.to_json() == metrics.to_json()
    assert again.dense.latency_ms == metrics.dense.latency_ms
