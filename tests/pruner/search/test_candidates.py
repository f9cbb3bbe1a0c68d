"""Candidates: of the structures at a budget, the one that loses least after short distillation."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

import latency_tables
import solver
from pruner import Plan, PrunerError, evaluate_candidates, formulate, predict, score
from pruner.importance import candidate_sample
from pruner.importance.divergence import run_batches, structure_divergence
from pruner.run.config import SolveConfig
from pruner.search import candidates as module
from pruner.search.solve_and_measure import choose
from pruner.utils.digests import digest_json
from pruner.utils.progress import SilentProgress
from pruner.utils.sealed_lines import read_lines

from ..networks import Residual
from ..problem.test_formulate import Rule, random_importance, traced

BUDGET = "50%"


@pytest.fixture(scope="module")
def case():
    torch.manual_seed(0)
    net = traced(Residual, 2)
    with torch.no_grad():
        net.module.head.weight.mul_(20)  # answers that differ from image to image
    batches = [(torch.randn(12, 3, 8, 8), None) for _ in range(8)]
    return net, batches, score(net, batches, None, "measured")


def _read_losses(journal) -> dict[str, float]:
    lines = read_lines(journal)
    losses = dict(lines)
    assert len(losses) == len(lines)  # none twice
    return losses


def test_what_loses_least_comes_first_within_the_budget_and_proven(case, tmp_path):
    net, batches, scores = case
    told: list[tuple[int, int | None]] = []
    journal = tmp_path / "sub" / "journal.txt"
    found = evaluate_candidates(net, Rule(), scores, batches, BUDGET, 9, journal=journal,
                  progress=lambda *at: told.append(at))  # fmt: skip
    assert told == [(n, 9) for n in range(1, 10)] and 4 <= len(found) <= 9
    losses = {digest_json(t.plan.to_json()): t.loss for t in found}
    assert losses == _read_losses(journal)
    assert [t.loss for t in found] == sorted(losses.values())
    dense = predict(net, Rule())
    for candidate in found:
        spent = predict(net, Rule(), candidate.plan.sizes(), candidate.plan.dropped_blocks())
        assert spent <= 0.5 * dense * (1 + 1e-9)
        assert candidate.solution.status is solver.Status.OPTIMAL
    # What the scores by themselves choose is among them.
    answer = solver.solve(formulate(net, Rule(), scores, BUDGET))
    assert digest_json(Plan.from_solution(net, answer, scores).to_json()) in losses


def test_a_loss_is_that_of_the_repaired_network_without_steps(case):
    net, batches, scores = case
    for candidate in evaluate_candidates(net, Rule(), scores, batches, BUDGET, 2, steps=0):
        few = batches[:11]  # all of them: less than it repairs on
        expected = structure_divergence(
            net, candidate.plan, few, batches, list(run_batches(net.module, batches))
        )
        assert candidate.loss == pytest.approx(expected)


@pytest.mark.parametrize("margin", [0.0, 0.05])
def test_some_leave_what_the_table_may_be_off_by(case, monkeypatch, margin):
    net, batches, scores = case
    table = Rule()
    table.error = SimpleNamespace(p95=0.09)
    asked = []
    before = module.formulate

    def note(*given, **more):
        asked.append(more["margin"])
        return before(*given, **more)

    monkeypatch.setattr(module, "formulate", note)
    evaluate_candidates(net, table, scores, batches, BUDGET, 8, steps=0, margin=margin)
    levels = [max(margin, level) for level in (0.0, 0.03, 0.06, 0.09)]
    assert sorted({round(free, 9) for free in asked}) == sorted(set(levels))


def test_what_was_tried_is_not_tried_again(case, tmp_path, monkeypatch):
    net, batches, scores = case
    journal = tmp_path / "journal.txt"
    whole = evaluate_candidates(net, Rule(), scores, batches, BUDGET, 8, journal=journal)
    text = journal.read_text()
    journal.write_text(text[: text.rindex("\n") - 9])  # killed while it wrote the last but one
    seen = []
    before = module.CandidateSample.add

    def add(self, plan, known=None):
        seen.append(known is None)
        return before(self, plan, known)

    monkeypatch.setattr(module.CandidateSample, "add", add)
    again = evaluate_candidates(net, Rule(), scores, batches, BUDGET, 8, journal=journal)
    assert seen[-2:] == [True, True] and not any(seen[:-2]) and len(seen) == text.count("\n")
    assert [(t.plan, t.loss) for t in again] == [(t.plan, t.loss) for t in whole]


def test_a_structure_whose_tuning_blows_up_is_left_out(case, monkeypatch, tmp_path):
    net, batches, scores = case
    journal = tmp_path / "journal.txt"
    calls = []

    def blow_up(module, lessons, steps, task):
        calls.append(steps)
        if len(calls) % 2:
            with torch.no_grad():
                module.head.weight.fill_(float("nan"))

    monkeypatch.setattr(candidate_sample, "distill_briefly", blow_up)
    found = evaluate_candidates(net, Rule(), scores, batches, BUDGET, 6, journal=journal)
    assert found and len(found) == len(calls) // 2
    again = evaluate_candidates(net, Rule(), scores, batches, BUDGET, 6, journal=journal)
    assert [t.plan for t in again] == [t.plan for t in found]


def test_scores_without_rises_are_refused_and_out_of_reach_nothing_is_tried(case):
    net, batches, scores = case
    with pytest.raises(PrunerError, match="whole widths; choose measured"):
        evaluate_candidates(net, Rule(), random_importance(net, 0), batches, BUDGET, 3)
    assert evaluate_candidates(net, Rule(), scores, batches, "0.0001ms", 3) == ()


@pytest.mark.parametrize("over", [0, 2, 100])
def test_the_best_that_measures_within_the_budget_is_taken(case, monkeypatch, over):
    """The device says of the first ``over`` structures that they take more than they may."""
    net, batches, scores = case
    found = evaluate_candidates(net, Rule(), scores, batches, BUDGET, 6, steps=0)
    budget_ms = 0.5 * predict(net, Rule())
    asked = []

    def check(table, net, engine, sizes, dropped):
        asked.append(sizes)
        predicted = predict(net, Rule(), sizes, dropped)
        off = 1.3 if len(asked) <= over else 1.0
        return SimpleNamespace(
            table=table, predicted_ms=predicted, measured_ms=off * predicted, spread_ms=0.1,
            error=off - 1,
        )  # fmt: skip

    monkeypatch.setattr(latency_tables, "check", check)
    choice = choose(
        net, Rule(), scores, None, budget_ms, SolveConfig(), SilentProgress(), lambda table: None,
        candidates=found,
    )  # fmt: skip
    assert asked[: len(found)] == [t.plan.sizes() for t in found[: over + 1]]
    if over < len(found):
        assert choice.best.plan == found[over].plan and not choice.warning
        assert choice.best.solution is found[over].solution
    else:  # none of them: the solver goes on, and asks for less
        assert len(asked) > len(found)
        assert choice.best.measured_ms <= budget_ms
