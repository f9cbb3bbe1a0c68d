"""Factors of the scores: fitted to what whole structures lose, they foretell it."""

from __future__ import annotations

import numpy as np
import pytest

from pruner.importance.candidate_sample import LEAST, fit_weights
from pruner.importance.divergence import run_batches, split_holdout, structure_divergence
from pruner.importance.refined import Savings, lagrangian_plan
from pruner.importance.score import score
from pruner.problem import objective_value
from pruner.structure.cost import count_macs
from pruner.structure.plan import Plan

from .test_measured import residual


def test_factors_make_the_objective_foretell_what_structures_lose():
    """Against losses by known factors; a term that no structure cuts gets the common one."""
    dice = np.random.default_rng(3)
    rows = dice.lognormal(size=(80, 6))
    rows[:, 5] = 0.0
    truth = np.array([0.3, 2.0, 1.0, 0.0, 4.0, 1.0])
    losses = rows @ truth * dice.lognormal(0.0, 0.02, size=80)
    found = fit_weights(rows, losses)
    assert found[[0, 1, 2, 4]] == pytest.approx(truth[[0, 1, 2, 4]], rel=0.25, abs=0.1)
    common = found[5]
    assert found[3] == pytest.approx(LEAST * common) and found.min() == found[3]
    again = fit_weights(rows, 7 * losses)
    assert again == pytest.approx(7 * found, rel=1e-4)
    saved = fit_weights(rows, losses + 3.0)  # whatever all of them lose is nobody's
    assert saved[[0, 1, 2, 4]] == pytest.approx(truth[[0, 1, 2, 4]], rel=0.25, abs=0.1)


def _ranks_agree(one, other) -> float:
    return float(np.corrcoef(np.argsort(np.argsort(one)), np.argsort(np.argsort(other)))[0, 1])


def test_a_calibrated_objective_foretells_the_loss_better():
    net, batches = residual()
    rank = {}
    fits, held_out = split_holdout(batches)
    base = list(run_batches(net.module, held_out))
    for criterion in ("measured", "calibrated"):
        found = score(net, batches, None, criterion)
        plans = [Plan.random(net, share, seed, 0.2) for seed in range(20) for share in (0.4, 0.6)]
        terms = [objective_value(net, found, plan.sizes(), plan.dropped_blocks()) for plan in plans]
        true = [structure_divergence(net, plan, fits, held_out, base) for plan in plans]
        rank[criterion] = _ranks_agree(true, terms)
    assert rank["calibrated"] < min(rank["measured"], -0.6)


def test_a_refined_objective_foretells_what_it_flatters():
    """On structures that are best by the very objective, each by its own."""
    net, batches = residual()
    fits, held_out = split_holdout(batches)
    base = list(run_batches(net.module, held_out))
    savings = Savings.measure(net)
    agreement = {}
    for criterion in ("measured", "refined"):
        found = score(net, batches, None, criterion)
        plans = [
            lagrangian_plan(net, found, savings, share, seed, 0.3)
            for seed in range(6)
            for share in (0.3, 0.4, 0.5, 0.6, 0.7)
        ]
        terms = [
            -objective_value(net, found, plan.sizes(), plan.dropped_blocks()) for plan in plans
        ]
        true = [structure_divergence(net, plan, fits, held_out, base) for plan in plans]
        agreement[criterion] = _ranks_agree(terms, true)
    assert agreement["refined"] > max(agreement["measured"], 0.8)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.8])
def test_a_lagrangian_plan_loses_least_of_what_costs_as_much(share):
    """Against structures that are changed in one place, where costs add up as it assumes."""
    net, batches = residual()
    found, savings = score(net, batches, None, "reconstruction"), Savings.measure(net)
    plan = lagrangian_plan(net, found, savings, share, 0, 0.0)
    assert count_macs(net, plan.sizes(), plan.dropped_blocks()) <= share * savings.total
    assert lagrangian_plan(net, found, savings, share, 0, 0.0) == plan
    assert lagrangian_plan(net, found, savings, share, 0, 2.0) != plan

    def reckoned(sizes: dict[str, int], dropped: set[str]) -> tuple[float, float]:
        saved = sum(savings.blocks[name] for name in dropped)
        lost_by = sum(max(found.blocks[name], 0.0) for name in dropped)
        for name, size in sizes.items():
            options = net.dims[name].options()
            least = options[0]
            saved += savings.dims[name] * (options[-1] - size) / (options[-1] - least)
            lost_by += found.loss_curves[name][options.index(size)]
        return saved, lost_by

    sizes, dropped = plan.sizes(), set(plan.dropped_blocks())
    saved, lost_by = reckoned(sizes, dropped)
    others = [({**sizes, n: o}, dropped) for n, d in net.dims.items() for o in d.options()]
    others += [(sizes, dropped ^ {name}) for name in net.blocks]
    for other in others:
        more, worse = reckoned(*other)
        assert not (more >= saved and worse < lost_by - 1e-12)
