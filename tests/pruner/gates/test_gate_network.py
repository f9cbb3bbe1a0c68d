"""Gated networks against the networks that were cut, and their derivatives against differences."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call

import pruner
from pruner.errors import PrunerError
from pruner.gates import find_gates, gate_network
from pruner.importance.score import score
from pruner.structure.trace import trace
from pruner.surgery.verify import largest_difference

from ..networks import Nested, Residual, shake
from .ways import Along, small_networks

SMALL = small_networks()


def _trace(name):
    model, x = SMALL[name]
    return trace(model, (x,), step=1), x


def _shuffle(net, seed=0):
    """A random plan of about half the network that drops a third of the blocks."""
    return pruner.Plan.random(net, macs=0.5, seed=seed, drop_blocks=0.3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SMALL)
def test_at_one_it_is_the_network_and_at_zero_and_one_the_cut_network(name):
    net, x = _trace(name)
    assert net.dims
    gated = gate_network(net)
    with torch.no_grad():
        assert largest_difference(gated(x), net.module(x)) < 1e-12
        for seed in range(4):
            plan = _shuffle(net, seed)
            find_gates(gated).set_plan(plan)
            assert largest_difference(gated(x), pruner.apply(net, plan)(x)) < 1e-10


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [n for n in SMALL if n not in ("counts", "largest", "infinity")])
def test_derivatives_by_gates_are_those_of_finite_differences(name):
    net, x = _trace(name)
    gated = gate_network(net)
    names = [key for key, _ in gated.named_parameters() if key.startswith("gates.")]
    dice = torch.Generator().manual_seed(1)
    held = dict(gated.named_parameters())
    start = [0.4 + torch.rand(held[k].shape, generator=dice, dtype=x.dtype) for k in names]

    def loss(*gates):
        outputs = functional_call(gated, dict(zip(names, gates)), (x,))
        return outputs.square().mean()

    ways = [torch.randn(g.shape, generator=dice, dtype=x.dtype) for g in start]

    def loss_along(step):
        return loss(*(g + step * way for g, way in zip(start, ways)))

    step = torch.zeros((), dtype=x.dtype, requires_grad=True)
    (slope,) = torch.autograd.grad(loss_along(step), step)
    h = 1e-5
    difference = float(loss_along(h) - loss_along(-h)) / (2 * h)
    assert float(slope) == pytest.approx(difference, rel=1e-5, abs=1e-8)


def test_second_derivatives_by_gates_are_those_of_finite_differences():
    net, x = _trace("residual")
    gated = gate_network(net)
    gates = list(find_gates(gated).parameters())

    def slopes():
        return torch.autograd.grad(gated(x).square().mean(), gates, create_graph=True)

    ways = [torch.randn_like(g) for g in gates]
    products = torch.autograd.grad(slopes(), gates, ways)
    ends = []
    for step in (1e-5, -2e-5):
        with torch.no_grad():
            for gate, way in zip(gates, ways):
                gate += step * way
        ends.append([s.detach() for s in slopes()])
    for product, up, down in zip(products, *ends):
        assert torch.allclose(product, (up - down) / 2e-5, rtol=1e-5, atol=1e-8)


def test_the_slope_at_one_is_that_of_the_weights_that_read():
    net, _ = _trace("residual")
    gated, gates = gate_network(net, blocks=()), None
    dice = torch.Generator().manual_seed(1)
    x = torch.randn(4, 3, 8, 8, generator=dice, dtype=torch.float64)
    y = torch.randint(0, 5, (4,), generator=dice)
    found = score(net, [(x, y)], nn.functional.cross_entropy, "taylor_read")
    nn.functional.cross_entropy(gated(x), y).backward()
    gates = find_gates(gated).dims
    for name in net.dims:
        assert torch.allclose(
            gates[name].grad.abs(), torch.from_numpy(found.total(name)), rtol=1e-10, atol=1e-14
        )


def _train(module, optimizer, steps):
    dice = torch.Generator().manual_seed(2)
    module.train()
    for _ in range(steps):
        x = torch.randn(8, 3, 8, 8, generator=dice, dtype=torch.float64)
        loss = nn.functional.cross_entropy(module(x), torch.arange(8) % 5)
        loss = loss + 0.1 * sum(g.abs().sum() for g in find_gates(module).parameters())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_it_trains_and_resumes_to_the_same_numbers():
    net, x = _trace("residual")
    before = copy.deepcopy(net.module.state_dict())
    gated = gate_network(net)
    optimizer = torch.optim.AdamW(gated.parameters(), 1e-2)
    _train(gated, optimizer, 3)
    state = copy.deepcopy((gated.state_dict(), optimizer.state_dict()))
    _train(gated, optimizer, 3)

    resumed = gate_network(net)
    resumed.load_state_dict(state[0])
    other = torch.optim.AdamW(resumed.parameters(), 1e-2)
    other.load_state_dict(state[1])
    _train(resumed, other, 3)
    for name, value in gated.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert any((g < 0.95).any() for g in find_gates(gated).parameters())
    for name, value in net.module.state_dict().items():
        assert torch.equal(value, before[name])


def test_its_other_tensors_are_the_networks_and_copies_are_apart():
    net, x = _trace("residual")
    gated = gate_network(net)
    own = [name for name in gated.state_dict() if not name.startswith("gates.")]
    assert own == list(net.module.state_dict())
    twin = copy.deepcopy(gated)
    find_gates(twin).set_values({name: 0.5 for name in net.dims}, {name: 0 for name in net.blocks})
    with torch.no_grad():
        assert largest_difference(gated(x), net.module(x)) < 1e-12
        assert largest_difference(twin(x), net.module(x)) > 1e-3


def test_only_what_is_asked_for_is_gated():
    net, x = _trace("residual")
    name, block = list(net.dims)[0], list(net.blocks)[0]
    gates = find_gates(gate_network(net, [name], [block]))
    assert gates.dims.names == (name,) and gates.blocks.names == (block,)
    assert gates.dims[name].shape == (net.dims[name].size,) and gates.blocks[block].shape == ()
    with pytest.raises(PrunerError, match="no dim 'stemm'"):
        gate_network(net, ["stemm"])
    with pytest.raises(PrunerError, match="no block 'x'"):
        gate_network(net, (), ["x"])
    with pytest.raises(PrunerError, match="has no gates"):
        find_gates(net.module)
    with pytest.raises(KeyError):
        gates.dims["other"]


@pytest.mark.parametrize(
    ("operator", "change"),
    [
        ("median", lambda x: x - x.median(1, keepdim=True)[0]),
        ("avg_pool3d", nn.LocalResponseNorm(3)),
    ],
)
def test_what_has_no_weighted_form_is_refused_by_name(operator, change):
    model = Along(change).double().eval()
    net = trace(model, (torch.randn(2, 3, 8, 8, dtype=torch.float64),), step=1)
    (name,) = net.dims
    with pytest.raises(PrunerError, match=rf"'{name}' cannot be gated: {operator}"):
        gate_network(net)
    assert gate_network(net, ()) is not None


def test_names_that_modules_have_themselves_and_several_inputs():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.items, self.names, self.gates = nn.Linear(6, 8), nn.Linear(8, 7), nn.Linear(7, 2)

        def forward(self, x):
            return self.gates(torch.relu(self.names(torch.relu(self.items(x)))))

    torch.manual_seed(0)
    for model, inputs in ((Named(), (torch.randn(2, 6),)),
                          (Nested(), (torch.randn(2, 6), torch.randn(2, 4)))):  # fmt: skip
        net = trace(shake(model), inputs, step=1)
        plan = _shuffle(net)
        gated = gate_network(net)
        find_gates(gated).set_plan(plan)
        with torch.no_grad():
            cut = pruner.apply(net, plan)(*inputs)
            assert largest_difference(gated(*inputs), cut) < 1e-5


def test_other_number_types():
    net = trace(shake(Residual()), (torch.randn(2, 3, 8, 8),))
    x = torch.randn(2, 3, 8, 8)
    gated = gate_network(net)
    with torch.no_grad():
        exact = net.module(x)
        assert gated(x).dtype == torch.float32
        assert largest_difference(gated.bfloat16()(x.bfloat16()).float(), exact) < 0.1
        with torch.autocast("cpu", torch.bfloat16):
            assert largest_difference(gate_network(net)(x).float(), exact) < 0.1
