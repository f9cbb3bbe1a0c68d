"""Criteria on whole networks: what they say of a width is what the network itself says."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from pruner.errors import PrunerError
from pruner.importance.candidate_sample import LEAST, fit_weights
from pruner.importance.divergence import (
    MEASURED_ON,
    mean_divergence,
    run_batches,
    split_holdout,
    structure_divergence,
)
from pruner.importance.measured import MeasuredCriterion, interpolate_curve
from pruner.importance.refined import Savings, lagrangian_plan
from pruner.importance.score import score
from pruner.problem import objective_value
from pruner.structure.cost import count_macs
from pruner.structure.plan import Plan, rank_indices
from pruner.structure.trace import trace
from pruner.surgery.apply import apply

from ..networks import Attention, Residual
from ..small import hand_traced, random_batches
from ..surgery.test_pca_rotation import bottleneck


def _residual():
    torch.manual_seed(0)
    net = trace(Residual(), (torch.zeros(1, 3, 8, 8),))
    return net, [(torch.randn(12, 3, 8, 8), None) for _ in range(8)]  # ten, and two, at a time


def _divergence(net, module, batches) -> float:
    with torch.no_grad():
        found = [
            kl_div(log_softmax(module(x), 1), log_softmax(net.module(x), 1), log_target=True,
                   reduction="batchmean")
            for x, _ in batches
        ]  # fmt: skip
    return float(np.mean(found))


def _lstsq_cut(net, dim: str, kept: tuple[int, ...], batches):
    """The cut network with one reader, refitted by numpy on the dense network's own values."""
    everything = {n: tuple(range(d.size)) for n, d in net.dims.items()}
    small = apply(net, Plan({**everything, dim: kept}, {}))
    (name,) = {s.tensor.rpartition(".")[0] for s in net.dims[dim].slots if s.role == "in"}
    found: dict[str, list[torch.Tensor]] = {"x": [], "y": []}

    def note(layer, inputs, output):
        found["x"].append(inputs[0])
        found["y"].append(output)

    handle = net.module.get_submodule(name).register_forward_hook(note)
    with torch.no_grad():
        for x, _ in batches:
            net.module(x)
    handle.remove()
    rows = torch.cat(found["x"])[:, list(kept)].movedim(1, -1).reshape(-1, len(kept))
    goals = torch.cat(found["y"]).movedim(1, -1).flatten(0, -2)
    design = np.concatenate([rows.double().numpy(), np.ones((len(rows), 1))], 1)
    weight = np.linalg.lstsq(design, goals.double().numpy(), rcond=None)[0]
    layer = small.get_submodule(name)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight[:-1].T).reshape(layer.weight.shape))
        layer.bias.copy_(torch.from_numpy(weight[-1]))
    return small


def test_measured_rises_are_the_divergence_of_the_cut_and_refitted_network():
    net, batches = _residual()
    before = copy.deepcopy(net.module.state_dict())
    found = score(net, batches, None, MeasuredCriterion(spatial_samples=10**6, shares=(0.5,)))
    name = next(n for n, d in net.dims.items() if any("b2.weight" in s.tensor for s in d.slots)
                and d.size == 6)  # fmt: skip
    options = net.dims[name].options()
    fits = [b for k, b in enumerate(batches) if k % 4 != 3]
    for size in (3, options[0]):  # the half, and the smallest
        kept = tuple(sorted(rank_indices(found, name)[:size].tolist()))
        expected = _divergence(net, _lstsq_cut(net, name, kept, fits), batches[3::4])
        assert found.loss_curves[name][options.index(size)] == pytest.approx(expected, rel=0.15)
    assert all(torch.equal(v, before[k]) for k, v in net.module.state_dict().items())


@pytest.mark.parametrize("criterion", ["measured", "reconstruction", "calibrated", "refined"])
def test_rises_fall_with_the_width_and_cover_every_dim_and_block(criterion):
    for net, batches in (_residual(), bottleneck()):
        told: list[tuple[int, int | None]] = []
        found = score(net, batches, None, criterion, lambda *at, told=told: told.append(at))
        assert told[-1][0] == told[-1][1]
        assert set(found.loss_curves) == set(net.dims) and set(found.blocks) == set(net.blocks)
        for name, dim in net.dims.items():
            rise = found.loss_curves[name]
            assert rise.shape == (len(dim.options()),) and rise[-1] == 0
            assert np.all(np.diff(rise) <= 0) and rise[0] > 0
            assert len(set(found.total(name))) == dim.size  # an order without ties
        again = score(net, batches, None, criterion)
        assert all(np.array_equal(found.loss_curves[n], again.loss_curves[n]) for n in net.dims)


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
    net, batches = _residual()
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
    net, batches = _residual()
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
def test_a_thrifty_structure_loses_least_of_what_costs_as_much(share):
    """Against structures that are changed in one place, where costs add up as it thinks."""
    net, batches = _residual()
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


def test_a_dead_branch_costs_nothing_to_bypass_and_a_live_one_does():
    net, batches = _residual()
    name, block = next((n, b) for n, b in net.blocks.items() if b.skip.startswith("relu"))
    alive = score(net, batches, None, "measured").blocks[name]
    with torch.no_grad():
        net.module.a2.weight.zero_()
        net.module.a2.bias.zero_()
    dead = score(net, batches, None, "measured").blocks[name]
    assert alive > 1e-6 and dead < 1e-3 * alive


def test_attention_is_measured_too():
    torch.manual_seed(0)
    net = trace(Attention(), (torch.zeros(1, 3, 16, 16),))
    batches = [(torch.randn(6, 3, 16, 16), None) for _ in range(4)]
    with torch.no_grad():
        assert net.module(batches[0][0]).ndim == 2
    found = score(net, batches, None, "measured")
    assert all(found.loss_curves[name][0] > 0 for name in net.dims)


class _Recorded(Residual):
    """Says more than its class scores, as Hugging Face's networks do."""

    def forward(self, x):
        scores = super().forward(x)
        return {"sizes": scores.square().sum(1), "logits": scores}


def test_of_several_results_the_class_scores_count():
    found = []
    for kind in (Residual, _Recorded):
        torch.manual_seed(0)
        net = trace(kind(), (torch.zeros(1, 3, 8, 8),))
        batches = [(torch.randn(12, 3, 8, 8), None) for _ in range(8)]
        found.append(score(net, batches, None, "measured"))
    plain, recorded = found
    assert plain.blocks and recorded.blocks == pytest.approx(plain.blocks)
    assert all(
        np.allclose(recorded.loss_curves[name], plain.loss_curves[name])
        for name in plain.loss_curves
    )


def test_maps_diverge_by_their_classes():
    torch.manual_seed(0)
    ours, theirs = torch.randn(2, 3, 7, 4, 5)
    rows = [maps.permute(0, 2, 3, 1).reshape(-1, 7) for maps in (ours, theirs)]
    found = mean_divergence([ours], [theirs])
    assert found == pytest.approx(mean_divergence([rows[0]], [rows[1]]))


def test_cuts_are_measured_on_a_quarter_of_the_images_until_there_are_enough():
    batches = [(torch.zeros(30, 1), k) for k in range(40)]
    fits, held_out = split_holdout(batches)
    assert [k for _, k in held_out] == [3, 7, 11, 15, 19] and 5 * 30 >= MEASURED_ON > 4 * 30
    assert sorted([k for _, k in fits] + [3, 7, 11, 15, 19]) == list(range(40))
    assert split_holdout(batches[:2]) == (batches[:2], batches[:2])


def test_between_measured_sizes_the_curve_is_a_power_of_the_error():
    net, _ = _residual()
    dim = max(net.dims.values(), key=lambda d: len(d.options()))
    options = dim.options()
    errors = {n: float(dim.size - n) for n in options}
    low, high = options[0], options[-2]
    truth = {n: 3.0 * errors[n] ** 1.7 for n in options}
    found = interpolate_curve(dim, errors, {low: truth[low], high: truth[high]})
    assert np.allclose(found, [truth[n] for n in options])


def test_a_network_without_a_graph_is_refused():
    with pytest.raises(PrunerError, match=r"pruner\.trace"):
        score(hand_traced(), random_batches(), cross_entropy, "measured")
