"""Least-squares repair: exact where what was lost can be made up for, closer where not."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from pruner.reconstruction.reconstruct import repair
from pruner.structure.plan import Plan
from pruner.structure.trace import trace
from pruner.surgery.apply import apply
from pruner.tuning.bn_recalibration import recalibrate

from ..networks import Residual
from ..small import hand_traced, random_batches
from ..surgery.test_pca_rotation import bottleneck


def _traced():
    net = trace(hand_traced().module.float(), (torch.zeros(2, 3, 8, 8),))
    return net, [(x.float(), y) for x, y in random_batches(6, 16)]


def _inner(net) -> str:
    return next(name for name, dim in net.dims.items() if dim.size == 6)


def _error(small, net, batches) -> float:
    with torch.no_grad():
        return float(
            np.mean([(small.eval()(x) - net.module.eval()(x)).square().mean() for x, _ in batches])
        )


def test_a_channel_that_another_repeats_is_made_up_for():
    net, batches = _traced()
    state = net.module.state_dict()
    for name in ("conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var"):
        state[name][5] = state[name][2]
    recalibrate(net.module, batches)  # random statistics would leave the channel dead
    plan = Plan({_inner(net): (0, 1, 2, 3, 4)}, {})
    small = apply(net, plan)
    before = _error(small, net, batches)
    layers = repair(small, net, plan, batches)
    assert set(layers) == {"conv2", "linear"}
    assert before > 1e-4 and _error(small, net, batches) < 1e-6 * max(1.0, before)
    weight = net.module.conv2.weight.detach()
    made_up = weight[:, 2] + weight[:, 5]
    assert torch.allclose(small.conv2.weight[:, 2], made_up, atol=1e-3)


def test_a_branch_is_fitted_to_the_sum_that_it_ends_in():
    """Ordinary least squares in numpy, from the cut network's inputs to the dense network's sum."""
    net, batches = _traced()
    keep = {name: tuple(range(dim.size))[: dim.size - 1] for name, dim in net.dims.items()}
    plan = Plan(keep, {})
    small = apply(net, plan)
    repair(small, net, plan, batches, spatial_samples=10**6)
    ours, theirs = small, net.module
    with torch.no_grad():
        rows, goals = [], []
        for x, _ in batches:
            stem = torch.relu(ours.stem_bn(ours.stem(x)))
            inner = torch.relu(ours.bn1(ours.conv1(stem)))
            dense = torch.relu(theirs.stem_bn(theirs.stem(x)))
            dense = dense + theirs.conv2(torch.relu(theirs.bn1(theirs.conv1(dense))))
            rows.append(inner.movedim(1, -1).reshape(-1, inner.shape[1]))
            goals.append((dense[:, :3] - stem).movedim(1, -1).reshape(-1, 3))
    x, y = torch.cat(rows).double().numpy(), torch.cat(goals).double().numpy()
    expected = np.linalg.lstsq(np.concatenate([x, np.ones((len(x), 1))], 1), y, rcond=None)[0]
    assert np.allclose(ours.conv2.weight.detach()[..., 0, 0].T, expected[:-1], atol=2e-2)
    assert np.allclose(ours.conv2.bias.detach(), expected[-1], atol=2e-2)


def test_repair_brings_a_cut_stream_closer_and_leaves_the_dense_network():
    net, batches = _traced()
    plan = Plan({n: tuple(range(dim.size))[: dim.size - 1] for n, dim in net.dims.items()}, {})
    small = apply(net, plan)
    before = copy.deepcopy(net.module.state_dict())
    cut = _error(small, net, batches)
    told: list[tuple[int, int | None]] = []
    layers = repair(small, net, plan, batches, progress=lambda *at: told.append(at))
    assert set(layers) == {"conv1", "conv2", "linear"} and told[-1] == (3, 3)
    assert _error(small, net, batches) < 0.5 * cut
    assert all(torch.equal(v, before[k]) for k, v in net.module.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.module.modules())


@pytest.mark.parametrize("memory_mb", [0, 100])
def test_depthwise_layers_are_fitted_and_memory_does_not_change_the_result(memory_mb):
    net, batches = bottleneck()
    keep = {name: tuple(range(dim.size))[: -(dim.size // 4)] for name, dim in net.dims.items()}
    plan = Plan(keep, {})
    small = apply(net, plan)
    recalibrate(small, batches)
    cut = _error(small, net, batches)
    small = apply(net, plan)
    layers = repair(small, net, plan, batches, memory_mb=memory_mb)
    assert "depthwise" in layers
    found = _error(small, net, batches)
    assert found < 0.5 * cut
    other = apply(net, plan)
    repair(other, net, plan, batches)
    assert found == pytest.approx(_error(other, net, batches), rel=1e-4)
    # Statistics fit the weights: estimating them anew changes next to nothing.
    recalibrate(small, batches)
    assert _error(small, net, batches) == pytest.approx(found, rel=0.1)


def test_what_is_read_in_the_place_of_a_dropped_block_is_fitted_to_the_blocks_sum():
    torch.manual_seed(0)
    net = trace(Residual(), (torch.zeros(1, 3, 8, 8),))
    batches = [(torch.randn(16, 3, 8, 8), None) for _ in range(6)]
    block = next(name for name, b in net.blocks.items() if b.skip.startswith("relu"))
    plan = Plan({}, {block: False})
    small = apply(net, plan)
    cut = _error(small, net, batches)
    layers = repair(small, net, plan, batches)
    assert layers[0] == "stem" and {"b1", "project", "b2"} <= set(layers)
    assert _error(small, net, batches) < 0.7 * cut


def test_nothing_cut_is_nothing_fitted():
    net, batches = _traced()
    small = apply(net, Plan.dense(net))
    assert repair(small, net, Plan.dense(net), batches) == ()
    assert repair(small, net, Plan({_inner(net): (0,)}, {}), []) == ()
    assert isinstance(small, nn.Module) and _error(small, net, batches) == 0


def test_places_is_the_former_name_of_spatial_samples():
    net, batches = _traced()
    plan = Plan({_inner(net): (0, 1, 2)}, {})
    one, other = apply(net, plan), apply(net, plan)
    repair(one, net, plan, batches, spatial_samples=7)
    repair(other, net, plan, batches, places=7)
    assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))
