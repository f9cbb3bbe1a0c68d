"""The accuracy benchmark: what to ask the table for, and plans that outlive their machine."""

from __future__ import annotations

import argparse
import json
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import latency_tables
from benchmarks import accuracy
from benchmarks.accuracy import Bench, Case, read_rows
from benchmarks.matching import CORRECTIONS, correct_aim, write_plans
from benchmarks.peers import Method
from pruner import Plan
from pruner.demo import WEIGHTS, unpack


@given(st.floats(0.1, 0.9), st.floats(0.6, 1.6), st.floats(0.85, 1.15))
def test_the_bracket_closes_on_a_device_that_the_table_misjudges(share, power, factor):
    """The device says factor * aim ** power where the table says aim."""
    seen = {}
    aim = share
    for _ in range(CORRECTIONS + 1):
        seen[aim] = factor * aim**power
        aim = correct_aim(seen, share)
    assert min(abs(ratio - share) for ratio in seen.values()) < 0.01 * share


@given(st.floats(0.2, 0.8), st.floats(0.05, 0.2))
def test_a_cliff_is_not_jumped_over_for_ever(share, height):
    """Nothing measures between the two sides of a cliff: the bracket around it gets narrow."""
    cliff = 0.97 * share
    seen = {}
    aim = share
    for _ in range(CORRECTIONS + 1):
        seen[aim] = aim if aim < cliff else aim + height
        aim = correct_aim(seen, share)
    below = max(a for a, ratio in seen.items() if ratio <= share)
    assert cliff - below < 0.1 * share


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Of the embedded network; it has no table."""
    unpack(tmp_path / "images")
    case = Case("images", "pruner.demo.resnet:resnet20", str(WEIGHTS), 32, (70,), 64, 32)
    monkeypatch.setitem(accuracy.CASES, "small", case)
    monkeypatch.setattr(latency_tables, "measure", None)
    options = argparse.Namespace(
        work=tmp_path / "work", results=tmp_path / "results", data=tmp_path, threads=1, epochs=1,
        train=128, amp="no", seeds=[0], shares=None,
    )  # fmt: skip
    return Bench("small", latency_tables.engine("onnxruntime"), options)


@pytest.mark.parametrize("over", [0, 2])
def test_of_what_was_tried_the_first_that_the_device_finds_fast_enough_is_taken(
    bench, monkeypatch, over
):
    plans = [Plan.random(bench.net, macs=0.6, seed=seed) for seed in range(4)]
    bench.methods["some"] = Method(bench.net, None, find_candidates=lambda share: plans)
    timed = []

    def compare(engine, probes, rounds):
        timed.append(probes)
        pruned = 1.5 if len(timed) <= over else 1.39
        return {"dense": SimpleNamespace(median_ms=2.0),
                "pruned": SimpleNamespace(median_ms=pruned, spread_ms=0.1)}  # fmt: skip

    monkeypatch.setattr(latency_tables, "compare", compare)
    found = bench.match("some", 0.7)
    assert found["plan"] == json.loads(plans[over].to_json())
    assert found["tries"] == [0.75] * over + [0.695]


def test_a_plan_of_another_machine_is_tuned_once_and_without_a_table(bench):
    options = bench.options
    plan = Plan.random(bench.net, macs=0.6, seed=1)
    chosen = {
        "method": "uniform", "latency_share": 70, "device": "elsewhere",
        "plan": json.loads(plan.to_json()), "measured_ms": 1.4, "spread_ms": 0.1, "dense_ms": 2.0,
        "tries": [0.7],
    }  # fmt: skip
    write_plans(options.results, "small", [chosen, {**chosen, "device": "here"}])
    bench.tune("uniform")
    first = read_rows(options.results)
    assert sorted(zip(first["device"], first["seed"])) == [("elsewhere", 0), ("here", 0)]
    assert set(first["measured_ms"]) == {1.4}
    assert (first["accuracy"] > 0.15).all()
    bench.tune("uniform")
    assert len(read_rows(options.results)) == 2
    options.train = 64
    bench.tune("uniform")  # another schedule: rows of its own
    assert list(read_rows(options.results)["train_images"]) == [128, 128, 64, 64]


def test_a_plan_is_cut_and_repaired_once(bench, monkeypatch):
    plan = Plan.random(bench.net, macs=0.6, seed=1)
    found = {"method": "uniform", "latency_share": 70, "plan": json.loads(plan.to_json())}
    first, row = bench.repair(found)
    monkeypatch.setattr(bench, "make_method", None)
    again, same = bench.repair(found)
    assert same == row
    images = next(iter(bench.data.test(8)))[0]
    with torch.no_grad():
        assert torch.equal(again(images), first.eval()(images))
