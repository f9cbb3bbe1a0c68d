"""compare: what stands in several RUNs, side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from pruner.errors import PrunerError
from pruner.run.comparison import ComparedRun, compare, tabulate
from pruner.run.metrics import Metrics

from ..runs import prepare, restore_run
from .test_report import METRICS


def make(name: str, **pruned: object) -> ComparedRun:
    content = json.loads(json.dumps(METRICS))
    content["pruned"] |= pruned
    return ComparedRun(name, "net", Metrics.model_validate(content))


def test_a_row_a_network_measured_or_predicted() -> None:
    rows = tabulate([make("a"), make("b", latency_ms=None, accuracy=None)])
    first, second = rows.to_dict("records")
    assert (first["ms"], first["faster"], first["accuracy"]) == ("4", "2.50x", "75.0%")
    assert first["accuracy, dense"] == "81.2%"
    assert second["ms"] == "~4.5" and pd.isna(second["faster"])


def test_a_run_is_read_and_put_on_a_page(tmp_path: Path) -> None:
    run, page = restore_run(prepare(tmp_path)), tmp_path / "page.html"
    outcome = compare([run, run], page)
    first, again = outcome.data["runs"]
    assert first == again and first["budget"] == "60%"
    assert str(outcome).count("tiny_network:make") == 2 and str(page) in str(outcome)
    assert page.read_text().count("60%") >= 2


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PrunerError, match="holds no run"):
        compare([tmp_path])
