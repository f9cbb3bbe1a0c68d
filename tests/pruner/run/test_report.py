"""The report: self-contained, well formed, and true to the figures that it is given."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from html.parser import HTMLParser
from typing import Any

import pandas as pd
import pytest

import latency_tables
from latency_tables import LatencyTable, predict_unseen
from pruner.run.metrics import Metrics
from pruner.run.plot import HEIGHT, WIDTH, Mark, Plot, lay_out
from pruner.run.report import render_comparison, render_overview, render_report
from tests.latency_tables.fakes import FakeEngine, FakeSource

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
        "frozen": [{"reason": "an output <of> it", "tensors": "linear.weight", "locked": 1234}],
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


@pytest.mark.parametrize(
    ("model", "weights", "given", "said"),
    [
        ("timm:resnet18", None, [1, 3, 8, 8], ("1x3x8x8", "random (state")),
        ("own.package:load", None, ["ids=1x8:int", "mask=1x8:ones"],
         ("ids=1x8:int, mask=1x8:ones", "as the factory makes them (state")),
        ("own.package:load", "/some/file", ["2x8:int"], ("input 2x8:int", "/some/file (state")),
    ],
)  # fmt: skip
def test_input_and_origin_of_the_weights_are_said(model, weights, given, said) -> None:
    identity = {**STATE["identity"], "model": model, "weights": weights, "input": given}
    text = render_report({**STATE, "identity": identity}, Metrics.model_validate(METRICS))
    assert all(one in text for one in said)


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


def test_runs_side_by_side() -> None:
    other = copy.deepcopy(METRICS)
    other |= {"budget": "30%", "device": "Another processor"}
    other["pruned"] |= {"latency_ms": 2.5, "accuracy": 0.5}
    rows = [("a", "net", Metrics.model_validate(METRICS)), ("b", "n<e>t", Metrics(**other))]
    text = render_comparison(rows)
    well_formed(text)
    assert "several devices" in text and "n&lt;e&gt;t" in text
    assert "accuracy 81.2% → 50.0%" in text and "4.00×" in text
    assert find_dots(text) == [
        "a: 4 ms, accuracy 75.0%", "b: 2.5 ms, accuracy 50.0%",
        "a, dense: 10 ms, accuracy 81.2%", "b, dense: 10 ms, accuracy 81.2%",
    ]  # fmt: skip
    for side in ("dense", "pruned"):
        other[side]["accuracy"] = None
    unjudged = render_comparison([("b", "net", Metrics(**other))])
    assert find_dots(unjudged) == ["b: 2.5 ms, 2,345 parameters"]


FRONTIER = pd.DataFrame(
    {
        "point": [1, 2], "budget": ["20%", "100%"], "predicted_ms": [2.0, 10.0],
        "value": [1.0, 4.0], "gap": [0.0, 2e-4], "parameters": [1234, 1234567], "blocks": [1, 2],
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def measured_table() -> LatencyTable:
    return latency_tables.measure(FakeSource(), FakeEngine(), probes=30)


def find_dots(text: str) -> list[str]:
    return re.findall(r'<circle [^>]*aria-label="([^"]*)"', text)


def test_the_trade_shows_every_budget_and_this_network() -> None:
    text = render_report(STATE, Metrics.model_validate(METRICS), frontier=FRONTIER)
    well_formed(text)
    first, second, own = find_dots(text)
    assert first == "point 1, 20%: 2 ms, keeps 1, 1,234 parameters, 1 blocks; proven best"
    assert second.endswith("at most 0.0002 below the best")
    assert own == "this network, 50%: 4.5 ms, keeps 3.5"


def test_held_out_structures_and_checks_are_shown(measured_table: LatencyTable) -> None:
    pairs = predict_unseen(measured_table)
    assert pairs
    relative = sorted(abs(predicted / measured - 1) for predicted, measured in pairs)
    error = measured_table.error
    assert error is not None and relative[-1] == pytest.approx(error.worst)
    text = render_report(STATE, Metrics.model_validate(METRICS), measured_table)
    well_formed(text)
    dots = find_dots(text)
    assert len(dots) == len(pairs) + 2
    assert dots[-1] == "this network: predicted 4.5 ms, measured 4 ms, +12.5%"


def test_the_tuning_is_shown_from_before_its_first_epoch() -> None:
    epochs = [{"epoch": 1, "loss": 2.0, "test": 0.5}, {"epoch": 2, "loss": 1.0, "test": 0.75}]
    text = render_report(STATE, Metrics.model_validate(METRICS | {"epochs": epochs}))
    well_formed(text)
    assert find_dots(text) == [
        "epoch 0: accuracy 25.0%", "epoch 1: accuracy 50.0%", "epoch 2: accuracy 75.0%",
    ]  # fmt: skip
    unjudged = [{"epoch": 1, "loss": 2.0}]
    text = render_report(STATE, Metrics.model_validate(METRICS | {"epochs": unjudged}))
    assert find_dots(text) == ["epoch 1: training loss 2"]


def test_points_lie_where_their_figures_say() -> None:
    marks = [Mark(x, y, "") for x, y in ((1, 10), (2, 20), (4, 40))]
    plot = lay_out(Plot("", "", "", marks))
    assert plot is not None
    (x1, y1), (x2, y2), (x4, y4) = ((x, y) for x, y, _ in plot["marks"])
    assert (x4 - x2) == pytest.approx(2 * (x2 - x1), abs=0.3)
    assert (y2 - y4) == pytest.approx(2 * (y1 - y2), abs=0.3)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y, _ in plot["marks"])
    assert lay_out(Plot("", "", "", [])) is None
    assert lay_out(Plot("", "", "", [Mark(1.0, 0.0, "alone")])) is not None


def test_reasons_and_settings_are_there() -> None:
    text = render_report(STATE, Metrics.model_validate(METRICS))
    assert "an output &lt;of&gt; it" in text and "1,234 numbers" in text
    assert "criterion: taylor" in text


def test_a_part_of_a_network_of_several_inputs() -> None:
    identity = STATE["identity"] | {"submodule": ["body", "head"], "input": ["a=1x8:int", "b=1x8"]}
    metrics = Metrics.model_validate(METRICS | {"submodule": ["body", "head"]})
    text = render_report(STATE | {"identity": identity}, metrics)
    well_formed(text)
    assert "its body and head alone, input a=1x8:int, b=1x8" in text
    assert "part=True" in text and "No source of the network is needed" not in text


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium on the path")
def test_a_browser_shows_it_without_an_error(tmp_path, measured_table: LatencyTable) -> None:
    path = tmp_path / "report.html"
    path.write_text(render_report(STATE, Metrics.model_validate(METRICS), measured_table, FRONTIER))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    done = subprocess.run(
        ["chromium", *options, profile, "--dump-dom", path.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    assert "Point at a dot" in done.stdout
