"""Short distillation of a cut network from the dense one."""

from __future__ import annotations

import copy

import pytest
import torch

from pruner import Plan, apply, score, trace
from pruner.importance.divergence import mean_divergence, run_batches
from pruner.importance.short_finetune import distill_briefly

from ..networks import Residual
from ..problem.test_formulate import IMAGE


@pytest.fixture(scope="module")
def case():
    torch.manual_seed(0)
    net = trace(Residual().eval(), IMAGE, step=2)
    with torch.no_grad():
        net.module.head.weight.mul_(20)  # answers that differ from image to image
    batches = [(torch.randn(12, 3, 8, 8), None) for _ in range(8)]
    return net, batches, score(net, batches, None, "measured")


def test_a_step_of_short_distillation_is_one_of_nesterovs_towards_the_dense_answers(case):
    net, batches, _ = case
    small = copy.deepcopy(net.module)
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.mul_(0.9)
    answers = next(run_batches(net.module, batches[:1]))
    before = {name: p.detach().clone() for name, p in small.named_parameters()}
    copied = copy.deepcopy(small).train()
    found = torch.log_softmax(copied(batches[0][0]), 1)
    goal = torch.softmax(answers, 1)
    loss = (goal * (goal.log() - found)).sum(1).mean()
    gradients = torch.autograd.grad(loss, list(copied.parameters()))
    distill_briefly(small, [((batches[0][0],), answers)], 1)
    assert not small.training
    for (name, after), gradient in zip(small.named_parameters(), gradients, strict=True):
        slope = gradient + 1e-4 * before[name]
        assert torch.allclose(after, before[name] - 0.02 * 1.9 * slope, atol=1e-6), name


def test_short_distillation_brings_a_cut_network_nearer_to_the_dense_one(case):
    net, batches, scores = case
    small = apply(net, Plan.random(net, macs=0.6, seed=3).refill(scores))
    lessons = [((x,), next(run_batches(net.module, [(x, None)]))) for x, _ in batches[:6]]
    base = list(run_batches(net.module, batches[6:]))

    def measure() -> float:
        return mean_divergence(run_batches(small, batches[6:]), base)

    before = measure()
    distill_briefly(small, lessons, 60)
    assert measure() < 0.8 * before
