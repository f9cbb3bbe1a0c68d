"""Tracing toy networks: their Dims, Blocks, Cells and what is frozen, computed by hand."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from pruner import Plan, TraceError, apply, trace
from pruner.structure.cost import count_macs, count_parameters

from ..networks import Attention, Dense, Nested, Odd, Plain, Residual, shake

IMAGE = (torch.zeros(2, 3, 8, 8),)


def tensors_of(dim, role):
    return {slot.tensor for slot in dim.slots if slot.role == role}


def test_dims_of_a_residual_network():
    net = trace(Residual(), IMAGE)
    assert {name: dim.size for name, dim in net.dims.items()} == {
        "stem": 8, "a1": 6, "b1": 6, "b2": 12,
    }  # fmt: skip
    stream = net.dims["stem"]
    assert tensors_of(stream, "out") == {"stem.weight", "a2.weight", "a2.bias"}
    assert tensors_of(stream, "in") == {"a1.weight", "b1.weight", "project.weight"}
    assert tensors_of(stream, "norm") == {
        "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var",
    }  # fmt: skip
    assert tensors_of(net.dims["b2"], "out") == {
        "b2.weight", "b2.bias", "project.weight", "project.bias",
    }  # fmt: skip


def test_blocks_are_branches_and_projections_stay():
    net = trace(Residual(), IMAGE)
    inside = {name: sorted(block.nodes) for name, block in net.blocks.items()}
    assert len(inside) == 2
    weights = {
        name: {
            slot.tensor for dim in net.dims.values() for slot in dim.slots if name in slot.blocks
        }
        for name in inside
    }
    first, second = weights.values()
    assert first == {"a1.weight", "a1.bias", "a2.weight", "a2.bias"}
    assert second == {"b1.weight", "b1.bias", "b2.weight", "b2.bias"}


def test_cells_cover_every_weight_once():
    net = trace(Residual(), IMAGE)
    names = [cell.name for cell in net.cells()]
    assert names == ["stem", "a1", "a2", "project", "b1", "b2", "mean", "head"]
    owners = {s.tensor: s.cell for dim in net.dims.values() for s in dim.slots}
    assert all(tensor.startswith(f"{cell}.") or cell == "stem" for tensor, cell in owners.items())
    nodes = [node for located in net.located for node in located.nodes]
    assert len(nodes) == len(set(nodes))
    sizes = {cell.name: cell.dense_sizes for cell in net.cells()}
    assert sizes["a2"] == (6, 8) and sizes["head"] == (12, 5)
    spec = {cell.name: cell.spec for cell in net.cells()}["stem"]
    assert spec.operator == "conv2d" and spec.fused == ("batch_norm", "relu")
    assert dict(spec.attributes)["kernel"] == (3, 3) and dict(spec.attributes)["map"] == (8, 8)


@pytest.mark.parametrize("kind", ["Residual", "resnet18"])
def test_what_strided_layers_alone_read_is_a_kind_of_its_own(kind):
    """By the cut networks' graphs, for every block or two that are dropped."""
    if kind == "Residual":
        net = trace(Residual(), IMAGE)
    else:
        torchvision = pytest.importorskip("torchvision")
        net = trace(torchvision.models.resnet18().eval(), (torch.zeros(1, 3, 64, 64),))
    plain = {cell.name: cell.spec for cell in net.cells()}
    anchors = {
        p.cell.name: next(
            n for n in net.program.graph.nodes if n.name in p.nodes and "conv" in n.name
        )
        for p in net.located
        if "conv" in p.cell.spec.operator
    }
    found = 0
    for count in (0, 1, 2):
        for dropped in itertools.combinations(net.blocks, count):
            small = apply(net, Plan({}, dict.fromkeys(dropped, False)))
            nodes = {node.name: node for node in small.graph.nodes}
            for cell in net.cells():
                anchor = anchors.get(cell.name)
                if anchor is None or anchor.name not in nodes:
                    continue
                strided = _strided_alone(small, nodes[anchor.name])
                spec = cell.spec_at(dropped)
                assert spec == (plain[cell.name].read_at(2) if strided else plain[cell.name])
                assert spec.plain == plain[cell.name]
                found += strided
    assert found >= 2


def _strided_alone(module, node):
    """Whether all that reads a value, sums and activations aside, are 1 x 1 strides of two."""
    reads, strided = list(node.users), set()
    while reads:
        user = reads.pop()
        layer = module.get_submodule(user.target) if user.op == "call_module" else None
        if isinstance(layer, torch.nn.Conv2d):
            strided.add(layer.kernel_size == (1, 1) and layer.stride == (2, 2))
        elif isinstance(layer, torch.nn.BatchNorm2d) or user.name.startswith(("relu", "add")):
            reads += user.users
        else:
            return False
    return strided == {True}


def test_flattened_maps_and_hidden_layers():
    net = trace(Plain(), IMAGE)
    assert {name: dim.size for name, dim in net.dims.items()} == {
        "conv1": 8, "conv2": 12, "fc1": 16,
    }  # fmt: skip
    (slot,) = [s for s in net.dims["conv2"].slots if s.role == "in"]
    assert slot.tensor == "fc1.weight" and slot.axis == 1
    assert slot.owner.tolist() == [i // 16 for i in range(192)]


def test_concatenations_groups_and_chunks():
    net = trace(Dense(), IMAGE)
    # The 8 + 4 + 4 channels are (2 + 1 + 1) groups of 4 before and of 6 behind the grouped
    # convolution: one of the first two groups can go, channels of every group alike, and the
    # channels that the gate joins.
    assert sorted(dim.size for dim in net.dims.values()) == [2, 4, 6, 6]
    assert not any("fit" in frozen.reason for frozen in net.frozen)
    assert "grow2.weight" in {s.tensor for d in net.dims.values() for s in d.slots}


def test_fused_attention_has_a_dim_for_every_width():
    net = trace(Attention(), IMAGE)
    # stream, heads, query and key width, value width, hidden width
    assert sorted(dim.size for dim in net.dims.values()) == [2, 4, 4, 6, 10]
    by_slots = {
        tuple(s.owner.tolist())
        for d in net.dims.values()
        for s in d.slots
        if s.tensor == "qkv.bias"
    }
    width = [0, 1, 2, 3]
    heads = ([0] * 4 + [1] * 4) * 3
    assert by_slots == {
        tuple(heads), (*width * 4, *[-1] * 8), (*[-1] * 16, *width * 2),
    }  # fmt: skip
    assert len(net.blocks) == 2


def test_what_no_rule_knows_is_frozen_and_named():
    net = trace(Odd(), IMAGE)
    assert set(net.dims) == {"free"}
    reasons = {frozen.reason: frozen.tensors for frozen in net.frozen}
    tensors = {t for reason, locked in reasons.items() if "no rule" in reason for t in locked}
    assert any("matrix_exp" in reason for reason in reasons)
    assert "locked.weight" in tensors and "free.weight" not in tensors


def test_arguments_by_name_and_results_in_a_dictionary():
    model = Nested().eval()
    x, other = torch.randn(2, 6), torch.randn(2, 4)
    net = trace(model, (x,), {"other": other})
    assert "c" not in net.dims  # an output
    got = net.module(x, other=other)
    assert set(got) == {"scores", "sums"}
    assert torch.equal(got["scores"], model(x, other)["scores"])


def test_the_rebuilt_network_is_the_model():
    model = shake(Dense())
    net = trace(model, IMAGE)
    x = torch.randn(3, 3, 8, 8)
    assert torch.equal(net.module(x), model(x))
    assert set(net.module.state_dict()) == set(model.state_dict())
    assert isinstance(net.module.get_submodule("stem"), nn.Conv2d)


def test_the_model_is_left_as_it_was():
    model = Residual().train()
    model.norm.eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    trace(model, IMAGE)
    assert model.training and not model.norm.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_counts_agree_with_the_model():
    model = Residual()
    net = trace(model, IMAGE)
    assert count_parameters(net) == sum(p.numel() for p in model.parameters())
    by_hand = 64 * (27 * 8 + 8 * 6 + 54 * 8) + 16 * (72 * 6 + 6 * 12 + 8 * 12) + 12 * 5
    assert count_macs(net) == by_hand


@pytest.mark.parametrize(("size", "step"), [(8, 1), (16, 2), (32, 4), (64, 8), (96, 8), (960, 8)])
def test_steps_are_powers_of_two(size, step):
    net = trace(
        nn.Sequential(nn.Linear(4, size), nn.ReLU(), nn.Linear(size, 2)), (torch.zeros(2, 4),)
    )
    assert net.dims["0"].step == step
    assert net.dims["0"].options()[-1] == size


def test_a_step_can_be_given():
    net = trace(Plain(), IMAGE, step=3)
    assert net.dims["conv1"].options() == (3, 6, 8)


def test_what_cannot_be_exported_is_one_clear_line():
    class Untraceable(nn.Module):
        def forward(self, x):
            return x * int(x.sum().item() > 0 and input())

    with pytest.raises(TraceError, match="Untraceable"):
        trace(Untraceable(), (torch.zeros(2, 3),))


def test_specifications_do_not_hold_the_size_of_the_example():
    class Windowed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 5)

        def forward(self, x):
            y = torch.relu(self.a(x.reshape(-1, 4, 6)))
            return self.b(y).reshape(x.shape[0], -1, 5)

    specs = [cell.spec for cell in trace(Windowed(), (torch.zeros(3, 20, 6),)).cells()]
    rows = [dict(spec.attributes)["rows"] for spec in specs if spec.operator == "linear"]
    assert rows == [("5 * batch", 4)] * 2
