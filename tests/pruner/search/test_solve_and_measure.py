"""The structure for a budget, where the device says something else than the table."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import latency_tables
from pruner import predict
from pruner.run.config import SolveConfig
from pruner.search.solve_and_measure import choose
from pruner.utils.progress import SilentProgress

from ..networks import Residual
from ..problem.test_formulate import Rule, random_importance, traced


def choose_at_half(monkeypatch, slower, **config):
    """slower(number of the structure, predicted ms, budget ms) -> what the device takes for it.

    The table learns nothing from that. Returns the choice, the budget, and all that was measured.
    """
    net = traced(Residual, 2)
    budget_ms = 0.5 * predict(net, Rule())
    met = []

    def check(table, net, engine, sizes, dropped):
        predicted = predict(net, Rule(), sizes, dropped)
        taken = slower(len(met), predicted, budget_ms)
        met.append((sizes, dropped, taken))
        return SimpleNamespace(
            table=table, predicted_ms=predicted, measured_ms=taken, spread_ms=0.01,
            error=taken / predicted - 1,
        )  # fmt: skip

    monkeypatch.setattr(latency_tables, "check", check)
    choice = choose(
        net, Rule(), random_importance(net, 0), None, budget_ms, SolveConfig(**config),
        SilentProgress(), lambda table: None,
    )  # fmt: skip
    return choice, budget_ms, met


def test_what_measures_within_the_budget_and_near_it_is_taken_at_once(monkeypatch):
    choice, budget_ms, met = choose_at_half(
        monkeypatch, lambda number, predicted, budget: 0.99 * budget
    )
    assert len(met) == len(choice.rounds) == 1
    assert choice.best.measured_ms == 0.99 * budget_ms and not choice.warning


@pytest.mark.parametrize("over", [1e-6, 0.003, 0.04])
def test_above_the_budget_is_above_it_by_however_little(monkeypatch, over):
    choice, budget_ms, met = choose_at_half(
        monkeypatch,
        lambda number, predicted, budget: predicted if number else (1 + over) * budget,
        attempts=40,
    )
    assert len(met) > 1 and choice.best.measured_ms <= budget_ms and not choice.warning
    assert choice.best.plan.sizes() != met[0][0]
    assert all(a[:2] != b[:2] for i, a in enumerate(met) for b in met[:i])  # none measured twice


def test_less_is_asked_by_small_steps_where_the_table_stands_by_what_was_too_slow(monkeypatch):
    """A thousandth above the budget costs half a percent, not a tenth of the network."""
    choice, budget_ms, met = choose_at_half(
        monkeypatch,
        lambda number, predicted, budget: predicted if number else 1.001 * budget,
        attempts=40,
    )
    asked = [found.asked_ms for found in choice.rounds]
    steps = [asked[1] / budget_ms / 0.995**count for count in range(1, 40)]
    assert any(step == pytest.approx(1, rel=1e-9) for step in steps)
    # No step was skipped: what it asked for just before still gave the structure that is too slow.
    assert met[0][2] > budget_ms and choice.rounds[0].predicted_ms > asked[1]


def test_where_none_fits_the_closest_is_taken_and_told_of(monkeypatch):
    choice, budget_ms, met = choose_at_half(
        monkeypatch, lambda number, predicted, budget: 1.5 * budget - number * 0.01, attempts=3
    )
    assert choice.best.measured_ms == min(taken for _, _, taken in met) > budget_ms
    assert "above the budget" in choice.warning
