"""First-order scores against slopes of the loss by finite differences."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from pruner.importance.score import score

from ..small import hand_traced, random_batches


def _loss_where(net, scale: dict[str, tuple[int, list[int], float]], batch) -> float:
    """The loss with some positions of some tensors multiplied by a factor."""
    module = copy.deepcopy(net.module)
    state = module.state_dict()
    for name, (axis, positions, factor) in scale.items():
        state[name].index_copy_(
            axis,
            torch.tensor(positions),
            state[name].index_select(axis, torch.tensor(positions)) * factor,
        )
    with torch.no_grad():
        return float(cross_entropy(module(batch[0]), batch[1]))


def _slope(net, tensors: dict[str, tuple[int, list[int]]], batch, step: float = 1e-4) -> float:
    """Central difference of the loss as all those positions shrink together."""
    up, down = (
        _loss_where(net, {k: (*v, 1 + s) for k, v in tensors.items()}, batch) for s in (step, -step)
    )
    return (up - down) / (2 * step)


@pytest.mark.parametrize("dim", ["stream", "inner"])
def test_taylor_is_the_slope_of_the_loss_as_the_gates_close(dim):
    net, batches = hand_traced(), random_batches()
    found = score(net, batches, cross_entropy, "taylor").total(dim)
    gates = {
        "stream": ["stem_bn.weight", "stem_bn.bias", "conv2.weight", "conv2.bias"],
        "inner": ["bn1.weight", "bn1.bias"],
    }[dim]
    for i in range(net.dims[dim].size):
        slopes = [abs(_slope(net, {g: (0, [i]) for g in gates}, b)) for b in batches]
        assert found[i] == pytest.approx(np.mean(slopes), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("dim", ["stream", "inner"])
def test_taylor_read_is_the_slope_of_the_loss_as_the_consumers_stop_reading(dim):
    net, batches = hand_traced(), random_batches()
    found = score(net, batches, cross_entropy, "taylor_read").total(dim)
    for i in range(net.dims[dim].size):
        reads = {
            "stream": {
                "conv1.weight": (1, [i]),
                "linear.weight": (1, list(range(4 * i, 4 * i + 4))),
            },
            "inner": {"conv2.weight": (1, [i])},
        }[dim]
        slopes = [abs(_slope(net, reads, b)) for b in batches]
        assert found[i] == pytest.approx(np.mean(slopes), rel=1e-5, abs=1e-9)


def test_taylor_foretells_the_rise_of_the_loss_when_a_faint_channel_is_cut():
    net, batches = hand_traced(), random_batches()
    with torch.no_grad():
        net.module.bn1.weight[2] *= 1e-3
        net.module.bn1.bias[2] *= 1e-3
    found = score(net, batches, cross_entropy, "taylor").total("inner")[2]
    changes = [
        _loss_where(net, {"conv2.weight": (1, [2], 0.0)}, b) - _loss_where(net, {}, b)
        for b in batches
    ]
    assert found == pytest.approx(np.mean(np.abs(changes)), rel=1e-2)


def test_a_stream_is_shared_out_among_its_writers_by_their_own_slopes():
    net, batches = hand_traced(), random_batches(1)
    parts = score(net, batches, cross_entropy, "taylor").parts["stream"]
    assert set(parts) == {"stem", "conv2"}
    for i in range(4):
        stem = _slope(net, {f"stem_bn.{k}": (0, [i]) for k in ("weight", "bias")}, batches[0])
        conv = _slope(net, {f"conv2.{k}": (0, [i]) for k in ("weight", "bias")}, batches[0])
        whole = abs(stem + conv)
        assert parts["stem"][i] == pytest.approx(
            whole * abs(stem) / (abs(stem) + abs(conv)), rel=1e-4
        )
        assert parts["conv2"][i] == pytest.approx(
            whole * abs(conv) / (abs(stem) + abs(conv)), rel=1e-4
        )
