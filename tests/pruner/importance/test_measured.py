"""Measured criteria: what they say of a width is what the network itself says."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from pruner.errors import PrunerError
from pruner.importance.hessian import Hessian
from pruner.importance.measured import MeasuredCriterion, interpolate_curve
from pruner.importance.reconstruction import Reconstruction
from pruner.importance.refined import RefinedCriterion
from pruner.importance.score import score
from pruner.structure.importance import Importance
from pruner.structure.plan import Plan, rank_indices
from pruner.structure.trace import trace
from pruner.surgery.apply import apply

from ..networks import Attention, Residual
from ..small import hand_traced, random_batches
from ..surgery.test_pca_rotation import bottleneck


def residual():
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


def test_measured_loss_curves_are_the_divergence_of_the_cut_and_refitted_network():
    net, batches = residual()
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
def test_loss_curves_fall_with_the_width_and_cover_every_dim_and_block(criterion):
    for net, batches in (residual(), bottleneck()):
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


@pytest.mark.parametrize(
    "criterion",
    [
        MeasuredCriterion(shares=(0.5,)),
        Reconstruction(),
        RefinedCriterion(random=2, rounds=1, each=1, shares=(0.5,)),
        Hessian(draws=1),
    ],
)
def test_the_network_is_left_as_it_was(criterion):
    net, batches = residual()
    net.module.train()
    net.module.norm.eval()
    net.module.a1.weight.requires_grad_(False)
    before = copy.deepcopy(net.module.state_dict())
    batches = [(x, torch.zeros(len(x), dtype=torch.int64)) for x, _ in batches]
    score(net, batches, cross_entropy, criterion)
    assert all(torch.equal(v, before[k]) for k, v in net.module.state_dict().items())
    assert net.module.training and net.module.head.training and not net.module.norm.training
    assert not net.module.a1.weight.requires_grad and net.module.a2.weight.requires_grad


def test_a_dead_branch_costs_nothing_to_bypass_and_a_live_one_does():
    net, batches = residual()
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


class RecordResidual(Residual):
    """Says more than its class scores, as Hugging Face's networks do."""

    def forward(self, x):
        scores = super().forward(x)
        return {"sizes": scores.square().sum(1), "logits": scores}


def test_of_several_results_the_class_scores_count():
    found = []
    for kind in (Residual, RecordResidual):
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


def test_between_measured_sizes_the_curve_is_a_power_of_the_error():
    net, _ = residual()
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


def test_a_given_order_is_measured_as_it_is():
    net, batches = residual()
    dice = np.random.default_rng(0)
    order = Importance("dice", {n: {"": dice.random(d.size)} for n, d in net.dims.items()})
    rule = MeasuredCriterion(spatial_samples=10**6, shares=(0.5,), order=order)
    found = score(net, batches, None, rule)
    name = next(n for n, d in net.dims.items() if any("b2.weight" in s.tensor for s in d.slots)
                and d.size == 6)  # fmt: skip
    fits = [b for k, b in enumerate(batches) if k % 4 != 3]
    options = net.dims[name].options()
    for size in (3, options[0]):
        kept = tuple(sorted(np.argsort(order.total(name))[6 - size :].tolist()))
        expected = _divergence(net, _lstsq_cut(net, name, kept, fits), batches[3::4])
        assert found.loss_curves[name][options.index(size)] == pytest.approx(expected, rel=0.15)
    for one in net.dims:
        assert np.array_equal(rank_indices(found, one), rank_indices(order, one))
