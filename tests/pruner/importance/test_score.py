"""Scores against independent arithmetic: finite differences, autograd by hand, sums of weights."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from pruner.errors import PrunerError
from pruner.importance.base import fold_positions
from pruner.importance.registry import CRITERIA
from pruner.importance.score import score
from pruner.structure.importance import Importance

from ..small import hand_traced, random_batches

NEEDS_DATA = {name for name, kind in CRITERIA.items() if kind.needs != "weights"}


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


def test_magnitude_and_l2_are_the_norms_of_what_writes_the_index():
    net = hand_traced()
    state = {k: v.numpy() for k, v in net.module.state_dict().items()}
    rows = [
        np.concatenate(
            [state["stem.weight"][i].ravel(), state["conv2.weight"][i].ravel()]
            + [state["conv2.bias"][i : i + 1]]
        )
        for i in range(4)
    ]
    assert np.allclose(
        score(net, None, None, "magnitude").total("stream"), [np.abs(r).sum() for r in rows]
    )
    assert np.allclose(
        score(net, None, None, "l2").total("stream"), [np.linalg.norm(r) for r in rows]
    )


@pytest.mark.parametrize("dim", ["stream", "inner"])
@pytest.mark.parametrize("criterion", ["taylor_sample", "fisher"])
def test_criteria_on_samples_are_those_of_batches_of_one(dim, criterion):
    """One sample a batch: the plain gradient of the parameters says the same."""
    net, batches = hand_traced(), random_batches()
    found = score(net, batches, cross_entropy, criterion).total(dim)
    singles = [(x[k : k + 1], y[k : k + 1]) for x, y in batches for k in range(len(y))]
    slopes = np.stack([score(net, [b], cross_entropy, "taylor").total(dim) for b in singles])
    expected = slopes.mean(0) if criterion == "taylor_sample" else (slopes**2).mean(0) / 2
    assert np.allclose(found, expected, rtol=1e-10)


def test_activation_is_the_strength_of_what_consumers_read():
    net, batches = hand_traced(), random_batches()
    found = score(net, batches, None, "activation").total("inner")
    module = net.module
    read = []
    for x, _ in batches:
        stem = torch.relu(module.stem_bn(module.stem(x)))
        read.append(torch.relu(module.bn1(module.conv1(stem))).detach().sum((2, 3)))
    assert np.allclose(found, torch.cat(read).mean(0).numpy())


def test_fpgm_is_the_sum_of_distances_between_filters():
    net = hand_traced()
    rows = net.module.conv1.weight.detach().flatten(1).numpy()
    expected = [sum(np.linalg.norm(a - b) for b in rows) for a in rows]
    assert np.allclose(score(net, None, None, "fpgm").total("inner"), expected)


def test_bn_scale_is_the_scale_where_there_is_one_and_the_weights_elsewhere():
    net = hand_traced()
    state = {k: v.numpy() for k, v in net.module.state_dict().items()}
    found = score(net, None, None, "bn_scale")
    assert np.allclose(found.total("inner"), np.abs(state["bn1.weight"]))
    assert np.allclose(found.parts["stream"]["stem"], np.abs(state["stem_bn.weight"]))


# They need a graph: see tests of their own.
GRAPHS = {"measured", "calibrated", "refined", "reconstruction", "hessian"}
ESTIMATES = sorted(set(CRITERIA) - GRAPHS)


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


def test_a_users_own_function_is_a_criterion():
    net = hand_traced()

    def biggest(name, parameter, gradient):
        assert gradient is not None and gradient.shape == parameter.shape
        return parameter.square()

    found = score(net, random_batches(), cross_entropy, biggest)
    assert found.criterion == "biggest"
    weight = net.module.conv1.weight.detach()
    assert np.allclose(found.total("inner"), weight.square().sum((1, 2, 3)).numpy())


def test_positions_of_nobody_are_left_out_and_shared_ones_add_up():
    values = torch.tensor([[1.0, 2.0, 4.0, 8.0]])
    assert fold_positions(values, np.array([1, -1, 0, 1]), 3).tolist() == [[4.0, 9.0, 0.0]]


def test_an_importance_file_gives_back_what_was_saved(tmp_path):
    parts = {
        "a/b": {"": np.array([1.0, 0.5]), "cell.1": np.array([0.0, 1e-300])},
        "c": {"": np.ones(3)},
    }
    rises = {"c": np.array([2.0, 0.5, 0.0])}
    Importance("mine", parts, {"block": -0.25}, rises).save(tmp_path / "i.safetensors")
    found = Importance.load(tmp_path / "i.safetensors")
    assert set(found.loss_curves) == {"c"} and np.array_equal(found.loss_curves["c"], rises["c"])
    assert found.criterion == "mine" and found.blocks == {"block": -0.25}
    assert {d: set(c) for d, c in found.parts.items()} == {"a/b": {"", "cell.1"}, "c": {""}}
    for dim, cells in parts.items():
        for cell, values in cells.items():
            assert np.array_equal(found.parts[dim][cell], values)
    assert [p.name for p in tmp_path.iterdir()] == ["i.safetensors"]


@pytest.mark.parametrize("damage", ["truncated", "edited", "foreign", "empty", "missing"])
def test_a_damaged_importance_file_is_refused(tmp_path, damage):
    path = tmp_path / "i.safetensors"
    Importance("mine", {"d": {"": np.arange(4.0)}}).save(path)
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(content[:-5])
    elif damage == "edited":
        content[-3] ^= 1
        path.write_bytes(content)
    elif damage == "foreign":
        from safetensors.torch import save_file

        save_file({"x": torch.ones(2)}, path)
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
    with pytest.raises(PrunerError, match=r"i\.safetensors") as caught:
        Importance.load(path)
    assert "\n" not in str(caught.value)


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
    assert {"magnitude", "l2", "bn_scale", "random"} <= set(CRITERIA) - NEEDS_DATA
    assert {"taylor", "taylor_weight"} <= NEEDS_DATA
