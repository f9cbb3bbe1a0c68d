"""What every criterion promises: the network left alone, scores that follow their channels."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from pruner.errors import PrunerError
from pruner.importance.registry import CRITERIA
from pruner.importance.score import score

from ..small import hand_traced, random_batches

# They need a graph: see tests of their own.
NEED_GRAPH = {
    "measured", "calibrated", "refined", "reconstruction", "hessian", "path", "domain_shift",
}  # fmt: skip
ESTIMATES = sorted(set(CRITERIA) - NEED_GRAPH)


@pytest.mark.parametrize("criterion", ESTIMATES)
def test_the_network_is_left_as_it_was(criterion):
    net = hand_traced()
    net.module.train()
    net.module.bn1.eval()
    net.module.conv1.weight.requires_grad_(False)
    net.module.conv2.weight.grad = torch.ones_like(net.module.conv2.weight)
    before = copy.deepcopy(net.module.state_dict())
    score(net, random_batches(), cross_entropy, criterion)
    assert all(torch.equal(v, before[k]) for k, v in net.module.state_dict().items())
    assert net.module.training and not net.module.bn1.training
    assert not net.module.conv1.weight.requires_grad and net.module.stem.weight.requires_grad
    assert torch.equal(net.module.conv2.weight.grad, torch.ones_like(net.module.conv2.weight))
    assert net.module.stem.weight.grad is None
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.module.modules())


@pytest.mark.parametrize("criterion", ESTIMATES)
def test_scores_cover_every_dim_and_are_repeatable(criterion):
    first, second = (
        score(hand_traced(), random_batches(), cross_entropy, criterion) for _ in range(2)
    )
    for name, dim in hand_traced().dims.items():
        assert first.total(name).shape == (dim.size,) and first.total(name).dtype == np.float64
        assert np.all(first.total(name) >= 0) and first.total(name).max() > 0
        assert np.array_equal(first.total(name), second.total(name))


@pytest.mark.parametrize("criterion", ESTIMATES)
def test_scores_follow_their_channels_when_those_are_reordered(criterion):
    if criterion == "random":
        pytest.skip("random scores belong to positions")
    net, order = hand_traced(), torch.tensor([3, 0, 5, 1, 4, 2])
    before = score(net, random_batches(), cross_entropy, criterion).total("inner")
    state = net.module.state_dict()
    for slot in net.dims["inner"].slots:
        state[slot.tensor] = state[slot.tensor].index_select(slot.axis, order)
    net.module.load_state_dict(state)
    after = score(net, random_batches(), cross_entropy, criterion).total("inner")
    assert np.allclose(after, before[order.numpy()])


def test_misuse_is_told():
    net = hand_traced()
    with pytest.raises(PrunerError, match="did you mean 'taylor'"):
        score(net, None, None, "tailor")
    with pytest.raises(PrunerError, match="needs data"):
        score(net, None, cross_entropy, "taylor")
    with pytest.raises(PrunerError, match="empty"):
        score(net, [], cross_entropy, "taylor")
    with pytest.raises(PrunerError, match="needs a loss"):
        score(net, random_batches(), None, "taylor")
    with pytest.raises(PrunerError, match="finite"):
        score(net, random_batches(), lambda o, t: o.sum() * float("nan"), "taylor")
    with pytest.raises(PrunerError, match="no importance for dim 'x'"):
        score(net, None, None, "magnitude").total("x")


def test_criteria_without_data_ask_for_none_and_the_others_do():
    needs_data = {name for name, kind in CRITERIA.items() if kind.needs != "weights"}
    assert {"magnitude", "l2", "bn_scale", "random"} <= set(CRITERIA) - needs_data
    assert {"taylor", "taylor_weight"} <= needs_data
