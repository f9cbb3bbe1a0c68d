"""The report: self-contained, well formed, and true to the figures that it is given."""

from __future__ import annotations

import copy
import re
from html.parser import HTMLParser
from typing import Any

from pruner.run.metrics import Metrics
from pruner.run.report import render_overview, render_report

STATE: dict[str, Any] = {
    "config": {"model": "a<b>:net", "seed": 3, "score": {"criterion": "taylor"}, "data": None},
    "identity": {"model": "a<b>:net", "input": [1, 3, 8, 8], "weights": None, "digest": "0" * 64},
    "versions": {"torch": "2.6"},
}
METRICS: dict[str, Any] = {
    "budget": "50%",
    "budget_ms": 5.0,
    "device": "A processor",
    "table": "18 structures measured in place",
    "dense": {
        "latency_ms": 10.0,
        "spread_ms": 0.25,
        "interval_ms": 0.05,
        "runs": 120,
        "parameters": 1234567,
        "accuracy": 0.8125,
    },
    "pruned": {
        "latency_ms": 4.0,
        "spread_ms": 0.125,
        "interval_ms": 0.04,
        "runs": 120,
        "predicted_ms": 4.5,
        "parameters": 2345,
        "accuracy_before_finetune": 0.25,
        "accuracy": 0.75,
    },
    "solver": {
        "status": "optimal",
        "advice": "No choice within the budgets is better.",
        "value": 3.5,
        "bound": 3.5,
        "gap": 0.0,
        "seconds": 0.5,
        "method": "auto",
        "budget_ms": 4.9,
    },
    "check": [{"predicted_ms": 4.0, "measured_ms": 4.4}],
    "warning": "",
    "finetune": "1 epochs",
    "structure": {
        "dims": [{"name": "stem", "kind": "stream", "size": 64, "kept": 24}],
        "blocks": [{"name": "layer1.0", "kept": True}, {"name": "layer1.1", "kept": False}],
        "cells": [
            {"name": "conv1", "dense_ms": 2.0, "pruned_ms": 1.0},
            {"name": "conv2", "dense_ms": 2.0, "pruned_ms": 0.0},
        ],
    },
}


class Checker(HTMLParser):
    """Every element that is opened is closed, in order."""

    void = {"meta", "rect", "line", "circle"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.void:
            assert self.open.pop() == tag


def well_formed(text: str) -> None:
    checker = Checker()
    checker.feed(text)
    assert not checker.open
    # Nothing is fetched from anywhere.
    assert not re.search(r"https?://|src=|@import|url\(", text)


def test_report_holds_the_figures() -> None:
    text = render_report(STATE, Metrics.model_validate(METRICS))
    well_formed(text)
    for words in (
        "10 → 4 ms",
        "2.50×",
        "75.0%",
        "dense 81.2%",
        "24 of 64",
        "1 of 2 dropped",
        "2.000 → dropped",
        "proven optimal",
        "+10.0%",
        "A processor",
        "pruner.load",
        "1,234,567",
    ):
        assert words in text, words
    assert "a&lt;b&gt;:net" in text and "a<b>" not in text


def test_what_was_not_measured_is_not_shown() -> None:
    metrics = copy.deepcopy(METRICS)
    metrics["pruned"].update(latency_ms=None, accuracy=None, accuracy_before_finetune=None)
    metrics["check"] = []
    metrics["dense"]["accuracy"] = None
    text = render_report(STATE, Metrics.model_validate(metrics))
    well_formed(text)
    assert "predicted, not measured" in text and "2.50×" not in text
    assert "None" not in text.replace("data none", "")


def test_overview_of_several_budgets() -> None:
    other = copy.deepcopy(METRICS)
    other["budget"] = "30%"
    other["pruned"]["latency_ms"] = 2.5
    text = render_overview(
        STATE, [(name, Metrics.model_validate(m)) for name, m in (("50", METRICS), ("30", other))]
    )
    well_formed(text)
    assert "50/report.html" in text and "30/report.html" in text
    assert "4.00×" in text and "<svg" in text
