"""Least-squares repair: exact where the lost channel can be made up for, closer where not."""

from __future__ import annotations

import copy

import numpy as np
import torch

from pruner.apply import apply
from pruner.plan import Plan
from pruner.recalibrate import recalibrate
from pruner.repair import repair
from pruner.trace import trace

from .small import hand_traced, random_batches


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
    # Statistics that are those of the images, so that recalibration changes nothing.
    recalibrate(net.module, batches)
    keep = {_inner(net): (0, 1, 2, 3, 4)}
    small = apply(net, Plan(keep, {}))
    before = _error(small, net, batches)
    layers = repair(small, net, keep, batches, ridge=1e-9)
    assert layers == ("conv2",)
    assert before > 1e-4 and _error(small, net, batches) < 1e-8 * max(1.0, before)
    weight = net.module.conv2.weight.detach()
    made_up = weight[:, 2] + weight[:, 5]
    assert torch.allclose(small.conv2.weight[:, 2], made_up, atol=1e-3)


def test_the_fit_is_that_of_ordinary_least_squares():
    net, batches = _traced()
    recalibrate(net.module, batches)
    keep = {_inner(net): (0, 2, 3)}
    small = apply(net, Plan(keep, {}))
    repair(small, net, keep, batches, ridge=0.0, places=10**6)
    module = net.module
    with torch.no_grad():
        stems = [torch.relu(module.stem_bn(module.stem(x))) for x, _ in batches]
        inner = [torch.relu(module.bn1(module.conv1(s))) for s in stems]
        rows = torch.cat([v.movedim(1, -1).reshape(-1, 6) for v in inner]).double().numpy()
        out = torch.cat([module.conv2(v).movedim(1, -1).reshape(-1, 4) for v in inner])
    design = np.concatenate([rows[:, [0, 2, 3]], np.ones((len(rows), 1))], 1)
    expected = np.linalg.lstsq(design, out.double().numpy(), rcond=None)[0]
    assert np.allclose(small.conv2.weight.detach()[..., 0, 0].T, expected[:3], atol=1e-4)
    assert np.allclose(small.conv2.bias.detach(), expected[3], atol=1e-4)


def test_repair_brings_a_cut_stream_closer_and_leaves_the_dense_network():
    net, batches = _traced()
    keep = {name: tuple(range(dim.size))[: dim.size - 1] for name, dim in net.dims.items()}
    small = apply(net, Plan(keep, {}))
    before = copy.deepcopy(net.module.state_dict())
    cut = _error(small, net, batches)
    told: list[tuple[int, int | None]] = []
    layers = repair(small, net, keep, batches, progress=lambda *at: told.append(at))
    assert set(layers) == {"conv1", "conv2", "linear"} and told[-1] == (3, 3)
    assert _error(small, net, batches) < 0.5 * cut
    assert all(torch.equal(v, before[k]) for k, v in net.module.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.module.modules())
