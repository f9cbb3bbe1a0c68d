"""Names of a state_dict: of modules held twice, and of parameters that no operator reads."""

import copy

import pytest
import torch
from torch import nn

import pruner


class Token(nn.Module):
    """A mask token that is read only where a mask is given, as in DINOv2."""

    def __init__(self):
        super().__init__()
        self.proj, self.mask_token = nn.Linear(8, 16), nn.Parameter(torch.zeros(1, 16))
        self.last, self.spare = nn.Linear(16, 3), nn.Sequential(nn.Linear(16, 3))

    def forward(self, x, mask=None):
        x = self.proj(x)
        return self.last(x if mask is None else torch.where(mask, self.mask_token, x))


class Head(nn.Module):
    def __init__(self, kinds):
        super().__init__()
        self.a = nn.Conv2d(3, 16, 1)
        self.inner = nn.Module()
        self.head = nn.Sequential(*kinds, nn.ReLU(), nn.Conv2d(16, 4, 1))

    def forward(self, x):
        return self.inner.head(self.a(x))


class Inside(Head):
    """A head that the network holds last under another name than it is called by."""

    def __init__(self, kinds):
        super().__init__(kinds)
        self.inner.head = self.head


class Listed(Head):
    """One head in a list, once a level, called by index."""

    def __init__(self, kinds):
        super().__init__(kinds)
        self.heads = nn.ModuleList([self.head] * 3)

    def forward(self, x):
        return sum(head(self.a(x)) for head in self.heads)


def norm():
    return [nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16)]


@pytest.mark.parametrize(
    "make",
    [Token, lambda: Inside([nn.Conv2d(16, 16, 3)]), lambda: Inside(norm()), lambda: Listed(norm())],
)
def test_every_name_of_the_model_is_a_name_of_the_cut_network(make, tmp_path):
    torch.manual_seed(0)
    model = make().eval()
    x = torch.randn(2, 5, 8) if isinstance(model, Token) else torch.randn(2, 3, 8, 8)
    net = pruner.trace(model, (x,))
    plan = pruner.Plan.random(net, macs=0.5)
    assert pruner.verify(model, net, plan) < 1e-5
    small = pruner.apply(net, plan)
    assert set(small.state_dict()) == set(model.state_dict())
    parameters = dict(model.named_parameters(remove_duplicate=False))
    assert set(dict(small.named_parameters(remove_duplicate=False))) == set(parameters)
    twin = copy.deepcopy(small)
    assert torch.equal(twin(x), small(x))
    pruner.save(small, plan, tmp_path)
    again = pruner.load(tmp_path)
    assert set(again.state_dict()) == set(model.state_dict())
    assert torch.equal(again(x), small(x))
    for one in (small, twin, again):  # one layer under two names stays one
        one.half()
        state, groups = one.state_dict(), {}
        for name, value in model.state_dict(keep_vars=True).items():
            groups.setdefault(id(value), []).append(name)
        for names in groups.values():
            assert len({state[name].data_ptr() for name in names}) == 1, names
