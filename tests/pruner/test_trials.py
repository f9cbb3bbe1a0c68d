"""Trials: of the structures at a budget, the one that loses least once it has learnt a little."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import solver
from pruner import Plan, PrunerError, apply, formulate, predict, score, tried
from pruner import trials as module
from pruner.folder import fingerprint
from pruner.importance.lesson import learn
from pruner.importance.measured import answers, divergence

from .networks import Residual
from .test_formulate import Rule, random_importance, traced

BUDGET = "50%"


@pytest.fixture(scope="module")
def case():
    torch.manual_seed(0)
    net = traced(Residual, 2)
    with torch.no_grad():
        net.module.head.weight.mul_(20)  # answers that differ from image to image
    batches = [(torch.randn(12, 3, 8, 8), None) for _ in range(8)]
    return net, batches, score(net, batches, None, "measured")


def test_a_step_of_a_lesson_is_one_of_nesterovs_towards_the_dense_answers(case):
    net, batches, _ = case
    small = copy.deepcopy(net.module)
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.mul_(0.9)
    taught = next(answers(net.module, batches[:1]))
    before = {name: p.detach().clone() for name, p in small.named_parameters()}
    copied = copy.deepcopy(small).train()
    found = torch.log_softmax(copied(batches[0][0]), 1)
    goal = torch.softmax(taught, 1)
    loss = (goal * (goal.log() - found)).sum(1).mean()
    gradients = torch.autograd.grad(loss, list(copied.parameters()))
    learn(small, [((batches[0][0],), taught)], 1)
    assert not small.training
    for (name, after), gradient in zip(small.named_parameters(), gradients, strict=True):
        slope = gradient + 1e-4 * before[name]
        assert torch.allclose(after, before[name] - 0.02 * 1.9 * slope, atol=1e-6), name


def test_a_lesson_brings_a_cut_network_nearer_to_the_dense_one(case):
    net, batches, scores = case
    small = apply(net, Plan.random(net, macs=0.6, seed=3).filled(scores))
    lessons = [((x,), next(answers(net.module, [(x, None)]))) for x, _ in batches[:6]]
    base = list(answers(net.module, batches[6:]))

    def apart() -> float:
        return divergence(({"": s} for s in answers(small, batches[6:])), "", base)

    before = apart()
    learn(small, lessons, 60)
    assert apart() < 0.8 * before


def _choice(net, scores) -> Plan:
    answer = solver.solve(formulate(net, Rule(), scores, BUDGET))
    return Plan.from_solution(net, answer, scores)


def test_the_scores_are_those_whose_structure_lost_least(case, tmp_path):
    net, batches, scores = case
    told: list[tuple[int, int | None]] = []
    journal = tmp_path / "sub" / "journal.txt"
    found = tried(net, Rule(), scores, batches, BUDGET, 9, journal=journal,
                  progress=lambda *at: told.append(at))  # fmt: skip
    assert told == [(n, 9) for n in range(1, 10)]
    lines = [line.split() for line in journal.read_text().splitlines() if line]
    losses = {key: float(loss) for _, key, loss, _ in lines}
    assert 4 <= len(losses) == len(lines) <= 9  # none twice
    chosen = _choice(net, found)
    assert losses[fingerprint(chosen.to_json())] == min(losses.values())
    first = losses[fingerprint(_choice(net, scores).to_json())]
    assert min(losses.values()) < first  # of this network the scores by themselves are not best
    spent = predict(net, Rule(), chosen.sizes(), chosen.dropped())
    assert spent <= 0.5 * predict(net, Rule()) * (1 + 1e-9)


def test_what_was_tried_is_not_tried_again(case, tmp_path, monkeypatch):
    net, batches, scores = case
    journal = tmp_path / "journal.txt"
    whole = tried(net, Rule(), scores, batches, BUDGET, 8, journal=journal)
    text = journal.read_text()
    journal.write_text(text[: text.rindex("lost") - 9])  # killed while it wrote the last but one
    seen = []
    before = module.Sample.add

    def add(self, plan, known=None):
        seen.append(known is None)
        return before(self, plan, known)

    monkeypatch.setattr(module.Sample, "add", add)
    again = tried(net, Rule(), scores, batches, BUDGET, 8, journal=journal)
    assert seen[-2:] == [True, True] and not any(seen[:-2]) and len(seen) == text.count("lost")
    assert again.blocks == whole.blocks
    assert all(np.array_equal(again.rises[n], whole.rises[n]) for n in whole.rises)


def test_scores_without_rises_are_refused_and_out_of_reach_they_come_back(case):
    net, batches, scores = case
    with pytest.raises(PrunerError, match="whole widths; choose measured"):
        tried(net, Rule(), random_importance(net, 0), batches, BUDGET, 3)
    assert tried(net, Rule(), scores, batches, "0.0001ms", 3) is scores
