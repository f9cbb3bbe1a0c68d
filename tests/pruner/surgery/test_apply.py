"""Cut networks against the oracles: the masked dense network, and the smaller one of its class."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pruner import Plan, PlanError, apply, trace, verify
from pruner.structure.cost import count_macs, count_parameters
from pruner.surgery.topk_alignment import AlignedInterpreter, find_selections
from pruner.surgery.verify import largest_difference

from ..networks import Attention, Dense, Nested, Odd, Plain, Residual, shake

IMAGE = (torch.zeros(2, 3, 8, 8, dtype=torch.float64),)
TOYS = {kind.__name__: kind for kind in (Residual, Plain, Dense, Attention, Odd)}
TRACED = {}


def traced(name):
    if name not in TRACED:
        torch.manual_seed(0)
        model = shake(TOYS[name]()).double()
        TRACED[name] = model, trace(model, IMAGE, step=1)
    return TRACED[name]


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from(sorted(TOYS)))
def test_a_cut_network_is_the_masked_dense_one(data, name):
    model, net = traced(name)
    keep = {}
    for dim in net.dims.values():
        size = data.draw(st.integers(1, dim.size))
        order = data.draw(st.permutations(range(dim.size)))
        keep[dim.name] = tuple(sorted(order[:size]))
    blocks = {block: data.draw(st.booleans()) for block in net.blocks}
    plan = Plan(keep, blocks)
    assert verify(model, net, plan) < 1e-10
    small = apply(net, plan)
    assert sum(p.numel() for p in small.parameters()) == count_parameters(
        net, plan.sizes(), plan.dropped_blocks()
    )


FAMILIES = {
    "resnet18": ("torchvision", "resnet18"),
    "resnet50": ("torchvision", "resnet50"),
    "vgg11_bn": ("torchvision", "vgg11_bn"),
    "mobilenet_v2": ("torchvision", "mobilenet_v2"),
    "mobilenet_v3": ("torchvision", "mobilenet_v3_small"),
    "efficientnet": ("torchvision", "efficientnet_b0"),
    "regnet_x": ("torchvision", "regnet_x_400mf"),
    "regnet_y": ("torchvision", "regnet_y_400mf"),
    "densenet": ("torchvision", "densenet121"),
    "resnext": ("torchvision", "resnext50_32x4d"),
    "shufflenet": ("torchvision", "shufflenet_v2_x0_5"),
    "timm resnet": ("timm", "resnet26d"),
    "timm efficientnet": ("timm", "tf_efficientnet_lite0"),
}


def build(library, name, **settings):
    module = pytest.importorskip(library)
    torch.manual_seed(0)
    if library == "timm":
        return module.create_model(name, **settings)
    return getattr(module.models, name)(weights=None, **settings)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_is_cut_exactly(family):
    model = shake(build(*FAMILIES[family])).double()
    side = 32
    net = trace(model, (torch.zeros(2, 3, side, side, dtype=torch.float64),))
    assert not net.axis_map.unsupported
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    cut = {slot.tensor for dim in net.dims.values() for slot in dim.slots}
    uncut = trained - cut  # all but the bias of the classes has an axis that can go
    if family != "shufflenet":  # there, channels that fall to both sides of a chunk stay
        assert len(uncut) == 1 and model.get_parameter(uncut.pop()).shape == (1000,)
    for seed, drop in ((0, 0.0), (1, 0.4)):
        plan = Plan.random(net, macs=0.5, seed=seed, drop_blocks=drop)
        assert verify(model, net, plan) < 1e-10
        assert count_macs(net, plan.sizes(), plan.dropped_blocks()) <= 0.5 * count_macs(net)


def test_removable_blocks_of_known_networks():
    counts = {"resnet50": 16, "mobilenet_v2": 10, "efficientnet_b0": 9, "densenet121": 0}
    for name, count in counts.items():
        net = trace(build("torchvision", name), (torch.zeros(2, 3, 32, 32),))
        assert len(net.blocks) == count, name


def test_the_smaller_network_of_the_same_class():
    torch.manual_seed(0)
    model = shake(Plain(8, 12, 16))
    net = trace(model, (torch.zeros(2, 3, 8, 8),))
    plan = Plan({"conv1": (0, 2, 5), "conv2": (1, 2, 3, 11), "fc1": (0, 1, 9, 15)}, {})
    small = apply(net, plan)
    twin = Plain(3, 4, 4).eval()
    state = model.state_dict()
    flat = [c * 16 + i for c in plan.keep["conv2"] for i in range(16)]
    one, two, hidden = (list(plan.keep[name]) for name in ("conv1", "conv2", "fc1"))
    sliced = {
        "conv1.weight": state["conv1.weight"][one],
        "conv1.bias": state["conv1.bias"][one],
        **{
            f"bn1.{k}": state[f"bn1.{k}"][one]
            for k in ("weight", "bias", "running_mean", "running_var")
        },
        "bn1.num_batches_tracked": state["bn1.num_batches_tracked"],
        "conv2.weight": state["conv2.weight"][two][:, one],
        "conv2.bias": state["conv2.bias"][two],
        "fc1.weight": state["fc1.weight"][hidden][:, flat],
        "fc1.bias": state["fc1.bias"][hidden],
        "fc2.weight": state["fc2.weight"][:, hidden],
        "fc2.bias": state["fc2.bias"],
    }
    twin.load_state_dict(sliced)
    x = torch.randn(3, 3, 8, 8)
    assert torch.equal(small(x), twin(x))
    assert {k: v.shape for k, v in small.state_dict().items()} == {
        k: v.shape for k, v in twin.state_dict().items()
    }


@pytest.mark.parametrize("name", sorted(TOYS))
def test_traced_again_the_sizes_are_the_plans(name):
    _, net = traced(name)
    plan = Plan.random(net, macs=0.6, seed=3)
    again = trace(apply(net, plan), IMAGE)
    assert sorted(d.size for d in again.dims.values()) == sorted(
        n for n in plan.sizes().values() if n > 1
    )


@pytest.mark.parametrize("name", sorted(TOYS))
def test_channels_in_another_order_change_nothing(name):
    """Every Dim's indices permuted in all of its tensors at once."""
    model, net = traced(name)
    x = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    shuffled = copy.deepcopy(model)
    tensors = {**dict(shuffled.named_parameters()), **dict(shuffled.named_buffers())}
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for dim in net.dims.values():
            order = torch.randperm(dim.size, generator=generator)
            for slot in dim.slots:
                owner, tensor = torch.from_numpy(slot.owner), tensors[slot.tensor]
                positions = torch.arange(len(owner))
                for new, old in enumerate(order):
                    positions[owner == new] = torch.nonzero(owner == old).flatten()
                tensor.copy_(tensor.index_select(slot.axis, positions))
        assert not torch.equal(next(shuffled.parameters()), next(model.parameters()))
        assert largest_difference(shuffled(x), model(x)) < 1e-12


def test_dropped_blocks_leave_no_dead_code():
    _, net = traced("Residual")
    small = apply(net, Plan({}, dict.fromkeys(net.blocks, False)))
    assert not any(name.startswith(("a1", "a2", "b1", "b2")) for name in small.state_dict())
    relus = [node for node in small.graph.nodes if "relu" in str(node.target)]
    assert len(relus) == 2  # relu(relu(x)) of the first block is one


def test_the_cut_network_is_a_module_like_any_other():
    model, net = traced("Residual")
    small = apply(net, Plan.random(net, macs=0.5, seed=0)).float()
    small.train()
    x = torch.randn(4, 3, 8, 8)
    small(x).sum().backward()
    assert all(p.grad is not None for p in small.parameters())
    before = small.get_submodule("norm").running_mean.clone()
    small(x)
    assert not torch.equal(before, small.get_submodule("norm").running_mean)
    twin = copy.deepcopy(small).eval()
    assert twin(x[:1]).shape == (1, 5)
    assert isinstance(small.get_submodule("a1"), nn.Conv2d)
    traced_again = torch.export.export(twin, (x,), strict=False)
    assert largest_difference(traced_again.module()(x), twin(x)) < 1e-6


def test_the_dense_network_is_not_touched():
    model, net = traced("Residual")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    small = apply(net, Plan.random(net, macs=0.5, seed=0))
    with torch.no_grad():
        for p in small.parameters():
            p.zero_()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_outputs_in_a_dictionary_stay_so():
    model = Nested().eval()
    x, other = torch.randn(2, 6), torch.randn(2, 4)
    net = trace(model, (x,), {"other": other})
    small = apply(net, Plan({}, {}))
    assert torch.equal(small(x, other=other)["sums"], model(x, other)["sums"])


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (Plan({"nowhere": (0,)}, {}), "nowhere"),
        (Plan({"stem": ()}, {}), "stem"),
        (Plan({"stem": (0, 8)}, {}), "from 0 to 7"),
        (Plan({"stem": (1, 1)}, {}), "different"),
        (Plan({}, {"nothing": False}), "nothing"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_by_name(plan, says):
    _, net = traced("Residual")
    with pytest.raises(PlanError, match=says):
        apply(net, plan)


def test_the_oracle_notices_a_wrong_cut():
    """verify is not blind: a network cut at other indices than the plan's differs."""
    model, net = traced("Plain")
    plan = Plan({"conv1": (0, 1, 2)}, {})
    wrong = apply(net, Plan({"conv1": (0, 1, 3)}, {}))
    from pruner.surgery.verify import silence_removed

    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    assert largest_difference(wrong(x), silence_removed(model, net, plan)(x)) > 1e-6


def test_the_oracle_follows_a_selection_among_equals_and_no_other():
    """Queries of equal score: which are selected is rounding's choice, and no fault of the cut."""

    class Selects(nn.Module):
        def __init__(self):
            super().__init__()
            self.stream = nn.Linear(8, 32)
            self.score = nn.Linear(32, 1)
            self.seat = nn.Parameter(torch.randn(12, 4))

        def forward(self, x):
            x = self.stream(x.flatten(1))[:, None] * self.scales[None, :, None]
            best = self.score(x).squeeze(-1).topk(4, dim=1).indices
            return self.seat[best]

    torch.manual_seed(0)
    model = Selects().double().eval()
    model.register_buffer("scales", torch.ones(12, dtype=torch.double), persistent=True)
    net = trace(model, (torch.randn(2, 8, dtype=torch.double),))
    plan = Plan.random(net, macs=0.5)
    small = apply(net, plan)
    (node,) = find_selections(small.graph)
    x = torch.randn(2, 8, dtype=torch.double)
    equals = {node.name: torch.tensor([[7, 3, 11, 0]] * 2)}  # all score alike
    with torch.no_grad():
        got = AlignedInterpreter(small, equals).run(x, enable_io_processing=False)
    assert torch.equal(got, model.seat[equals[node.name]])
    assert verify(model, net, plan) == 0

    with torch.no_grad():
        model.scales.copy_(torch.linspace(1, 2, 12))  # now they differ
    net = trace(model, (x,))
    small = apply(net, plan)
    with torch.no_grad():
        got = AlignedInterpreter(small, equals).run(x, enable_io_processing=False)
    assert torch.equal(got, small(x)) and not torch.equal(got, model.seat[equals[node.name]])
