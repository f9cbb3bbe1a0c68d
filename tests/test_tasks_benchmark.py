"""The benchmark of tasks: rows that are done once, outlive their machine, and are timed anew."""

from __future__ import annotations

import argparse
import json
from types import SimpleNamespace

import pytest

import latency_tables
from benchmarks import tasks
from benchmarks.matching import read_plans, write_plans
from benchmarks.task_cases import CASES, Case
from benchmarks.tasks import Bench, read_rows, report
from pruner import Plan
from pruner.demo import WEIGHTS, unpack
from pruner.run import Config
from pruner.utils import digest_json

STEPS = ("dense", "cut", "repaired", "tuned")


@pytest.fixture
def make_bench(tmp_path, monkeypatch):
    """Makes one of the embedded network, that a latency table must not be asked for."""
    unpack(tmp_path / "images")
    config = {
        "model": "pruner.demo.resnet:resnet20", "weights": str(WEIGHTS),
        "data": str(tmp_path / "images"), "task": "classification",
    }  # fmt: skip
    small = Case(config, {}, fit=32, batch=32, test=100, epochs=1, train=64)
    monkeypatch.setitem(tasks.CASES, "small", small)
    monkeypatch.setattr(latency_tables, "measure", None)

    def make(**changes):
        given = {
            "work": tmp_path / "work", "results": tmp_path / "results", "threads": 1, "seed": 0,
            "epochs": None, "train": None, "test": None, "quick": False, "remeasure": False,
        }  # fmt: skip
        return Bench("small", argparse.Namespace(**{**given, **changes}))

    return make


def pick(bench, method, seed, **changes):
    """What a method is said to have picked on this device."""
    plan = Plan.random(bench.space.net, macs=0.6, seed=seed)
    return {
        "method": method, "latency_share": 70, "device": bench.device, "loaded": False,
        "plan": json.loads(plan.to_json()), "measured_ms": 1.4, "spread_ms": 0.1, "dense_ms": 2.0,
        "tries": [0.7], **changes,
    }  # fmt: skip


def test_a_row_is_done_once_and_anew_for_another_schedule(make_bench, monkeypatch):
    bench = make_bench()
    folder = bench.options.results
    picked = [pick(bench, tasks.OURS, 1), pick(bench, "uniform", 2, device="elsewhere")]
    write_plans(folder, "small", picked)
    bench.judge(tasks.OURS, 70)
    bench.judge("uniform", 70)  # of another device
    (row,) = read_rows(folder)
    assert row["metric"]["name"] == "accuracy" and all(0 <= row[step] <= 1 for step in STEPS)
    assert row["repaired"] > row["cut"] and row["dense"] > 0.6
    with monkeypatch.context() as patch:
        patch.setattr(bench, "repair", None)
        bench.judge(tasks.OURS, 70)
    again = make_bench(train=32)
    monkeypatch.setattr(again, "evaluate", lambda module: 0.5)
    again.judge(tasks.OURS, 70)
    (other,) = read_rows(folder)
    # What comes before the tuning is not done again.
    assert (other["train_samples"], other["tuned"]) == (32, 0.5)
    assert all(other[step] == row[step] for step in STEPS[:3])


@pytest.mark.parametrize("measured", [1.39, 1.6], ids=["within", "missed"])
def test_what_was_loaded_is_timed_anew_and_chosen_anew_where_it_misses(
    make_bench, monkeypatch, measured
):
    bench = make_bench(remeasure=True)
    folder = bench.options.results
    old = pick(bench, "uniform", 1, loaded=True, measured_ms=3.0, device="elsewhere")
    write_plans(folder, "small", [old])
    digest = digest_json(old["plan"])[:16]
    row = {
        "network": "small", "method": "uniform", "budget": 70, "plan": digest, "loaded": True,
        "measured_ms": 3.0, "spread_ms": 0.1, "dense_ms": 2.0, "device": "elsewhere",
    }  # fmt: skip
    (folder / "tasks.json").write_text(json.dumps({"rows": [row]}))
    chosen = pick(bench, "uniform", 7)
    matcher = SimpleNamespace(
        method=SimpleNamespace(net=bench.space.net),
        match=lambda share: {
            k: chosen[k] for k in ("plan", "measured_ms", "spread_ms", "dense_ms")
        },
    )
    bench.matchers["uniform"] = matcher
    monkeypatch.setattr(
        latency_tables, "compare",
        lambda engine, probes, rounds: {
            "dense": SimpleNamespace(median_ms=2.0),
            "pruned": SimpleNamespace(median_ms=measured, spread_ms=0.1),
        },
    )  # fmt: skip
    bench.choose("uniform", 70)
    (kept,) = read_plans(folder, "small")
    assert (kept["loaded"], kept["device"]) == (False, bench.device)
    within = measured < 1.4
    assert kept["plan"] == (old if within else chosen)["plan"]
    (row,) = read_rows(folder)
    assert row["loaded"] is not within and row["measured_ms"] == (measured if within else 3.0)
    monkeypatch.setattr(matcher, "match", None)
    bench.choose("uniform", 70)  # nothing is loaded any more


def make_row(method, tuned, higher=True, **changes):
    """A row as `Bench.judge` writes it."""
    return {
        "network": "net", "task": "some", "method": method, "budget": 70, "seed": 0,
        "plan": digest_json(method)[:16],
        "device": "here", "epochs": 1, "train_samples": 8, "fit_samples": 4, "test_samples": 9,
        "recipe": {}, "loaded": False, "measured_ms": 1.4, "spread_ms": 0.1, "dense_ms": 2.0,
        "metric": {"name": "figure", "unit": "", "higher_is_better": higher}, "dense": 0.9,
        "cut": 0.1, "repaired": 0.2, "tuned": tuned, "minutes": 1.0, "date": "2026-01-01",
        "machine": {"torch": "2"}, "trained": None, **changes,
    }  # fmt: skip


@pytest.fixture
def results(tmp_path):
    """Where the rows' structures are those that the methods have picked."""
    plans = [{"method": one, "latency_share": 70, "plan": one} for one in (tasks.OURS, "uniform")]
    write_plans(tmp_path, "net", plans)
    return tmp_path


@pytest.mark.parametrize("higher", [True, False])
def test_the_table_is_sorted_by_what_is_better_and_says_where_ours_is_not_first(higher, results):
    rows = [make_row(tasks.OURS, 0.5, higher), make_row("uniform", 0.6, higher)]
    text = report(rows, results)
    order = [line.split("|")[2].strip() for line in text.splitlines() if line.startswith("| 70%")]
    assert order == (["uniform", tasks.OURS] if higher else [tasks.OURS, "uniform"])
    assert ("not in: net at 70%: uniform" in text) is higher
    assert ("first after tuning in all 1" in text) is not higher
    assert "(loaded)" not in text and "earlier choice" not in text
    assert "(loaded)" in report([make_row("uniform", 0.6, loaded=True)], results)
    before = make_row("uniform", 0.6, plan="another")
    assert "uniform (earlier choice)" in report([before], results)


@pytest.mark.parametrize("name", sorted(CASES))
def test_every_case_is_a_configuration(name):
    config = Config.from_dict(dict(CASES[name].config))
    assert config.data and config.task
    assert CASES[name].name in str(config.task)
