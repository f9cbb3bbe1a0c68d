"""The oracle: it sees wrong cuts, and gives no false alarm where weights are computed."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

import pruner
from pruner.axes.rules import RULES
from pruner.axes.rules.elementwise import match_pointwise
from pruner.surgery.verify import largest_difference


class Along(nn.Module):
    """A map between two convolutions, changed by some function of it."""

    def __init__(self, change):
        super().__init__()
        self.first, self.last, self.change = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 4, 1), change

    def forward(self, x):
        return self.last(self.change(self.first(x)))


def deviate(model, *inputs):
    model.eval()
    net = pruner.trace(model, inputs)
    assert net.dims
    return pruner.verify(model, net, pruner.Plan.random(net, macs=0.5, seed=1))


@pytest.mark.parametrize(
    ("operator", "change"),
    [("flip", lambda x: x.flip(1)), ("roll", lambda x: x.roll(3, 1))],
)
def test_a_wrong_rule_is_seen(monkeypatch, operator, change):
    torch.manual_seed(0)
    monkeypatch.setitem(RULES, operator, match_pointwise)
    assert deviate(Along(change), torch.randn(2, 3, 8, 8)) > 1e-3


@pytest.mark.parametrize("name", ["norms", "terms", "layers"])
def test_norms_are_known_by_type_whatever_they_are_called(name):
    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 4)
            setattr(self, name, nn.ModuleList([nn.LayerNorm(16), nn.RMSNorm(16)]))
            nn.init.normal_(getattr(self, name)[0].bias)

        def forward(self, x):
            return self.b(getattr(self, name)[1](getattr(self, name)[0](self.a(x))))

    torch.manual_seed(0)
    assert deviate(Listed(), torch.randn(2, 5, 8)) < 1e-5


def test_outputs_that_are_no_floats_are_compared():
    assert largest_difference(torch.arange(4), torch.arange(4).flip(0)) == 1.0
    values = torch.randn(4, dtype=torch.cfloat)
    assert largest_difference(values, values) == 0
    assert largest_difference(values, values + 1) > 0.1
    nan = torch.tensor([float("nan"), 1.0])
    assert largest_difference(nan, nan) == 0
    assert math.isnan(largest_difference(nan, torch.ones(2)))
    assert math.isnan(largest_difference(nan[:1], nan[:1]))
    assert largest_difference(torch.ones(2).half(), torch.ones(2)) == 0
    assert largest_difference(torch.ones(2, dtype=torch.int64), torch.ones(2)) == math.inf


def test_a_graph_that_is_not_its_model_is_seen():
    model = Along(functional.relu).eval()
    net = pruner.trace(model, (torch.randn(2, 3, 8, 8),))
    model.change = functional.silu
    assert pruner.verify(model, net, pruner.Plan.random(net, macs=0.5)) > 1e-3


def fold_maps(x):
    """Multiply channels that stand folded with the map, whose size the input decides."""
    return (x.flatten(1) * 2).unflatten(1, (16, -1)).unsqueeze(-1).softmax(1)


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (5, 3, 8, 8), (2, 3, 12, 10), (3, 3, 9, 16)])
def test_other_batches_and_sizes_are_verified(shape):
    torch.manual_seed(0)
    model, x = Along(fold_maps).eval(), torch.randn(shape)
    net = pruner.trace(model, (torch.randn(2, 3, 8, 8),))
    plan = pruner.Plan.random(net, macs=0.5, seed=1)
    assert len(plan.keep) == 1 and len(*plan.keep.values()) < 16
    assert pruner.verify(model, net, plan, inputs=[x]) < 1e-5
    model.last.forward = lambda y: functional.conv2d(y, model.last.weight, model.last.bias) + 1
    assert pruner.verify(model, net, plan, inputs=[x]) > 1e-3


def test_sizes_that_a_network_does_not_take_are_refused():
    model = Along(lambda x: x.flatten(1).view(x.shape)).eval()
    net = pruner.trace(model, (torch.randn(2, 3, 8, 8),))
    with pytest.raises(pruner.PrunerError, match="takes an input of"):
        pruner.verify(model, net, pruner.Plan.dense(net), inputs=[torch.randn(2, 3, 9, 8)])
