"""Cut networks in half and double precision: what they make themselves has the data's type."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from pruner import Plan, apply, load, save, trace, verify
from pruner.surgery.verify import largest_difference


def assert_close(got, expected, tolerance):
    assert largest_difference(got, expected) <= tolerance


class Positioned(nn.Module):
    """Positions and masks that are made in the type of what they meet, or cast to it."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x, there=None):
        y, n = self.a(x), x.shape[1]
        steps = torch.arange(n, dtype=torch.float32, device=x.device)[:, None] / 10
        y = y + self.b(torch.cat([steps.sin(), steps.cos()] * 8, 1).to(y.dtype))  # cast, then read
        y = y * x.new_full((n, 1), 0.5) + torch.ones(16, dtype=y.dtype, device=x.device)
        near = (y.mean(-1, keepdim=True) > 0).to(y.dtype)
        bias = torch.zeros(n, n, dtype=y.dtype, device=x.device)
        if there is not None:
            bias = bias + (1 - there[:, None].to(y.dtype)) * -100
        y = torch.nn.functional.scaled_dot_product_attention(y, y, y, bias) * near
        return self.c(y)


@pytest.mark.parametrize("with_mask", [False, True])
def test_numbers_that_a_network_makes_meet_its_data_in_their_type(with_mask, tmp_path):
    torch.manual_seed(0)
    model, args = Positioned().eval(), (torch.randn(2, 5, 8),)
    args += (torch.tensor([[1, 1, 1, 1, 0]] * 2),) if with_mask else ()
    net = trace(model, args)
    plan = Plan.random(net, 0.5, seed=1)
    assert verify(model, net, plan) < 1e-5
    save(apply(net, plan), plan, tmp_path)
    for small in apply(net, plan), load(tmp_path):
        with torch.no_grad():
            expected = small(*args)
            for number, tolerance in (
                (torch.double, 1e-5),
                (torch.bfloat16, 0.1),
                (torch.half, 0.02),
            ):
                got = copy.deepcopy(small).to(number)(args[0].to(number), *args[1:])
                assert got.dtype == number
                assert_close(got.float(), expected, tolerance)
    again = trace(small, args)
    assert verify(small, again, Plan.random(again, 0.5)) < 1e-5


class Tokens(nn.Module):
    """Takes integers alone: its type is that of its weights."""

    def __init__(self):
        super().__init__()
        self.table, self.a, self.c = nn.Embedding(9, 8), nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, ids):
        place = torch.arange(ids.shape[1], device=ids.device)[:, None] / 4
        return self.c(self.a(self.table(ids) + place.to(self.table.weight.dtype)).relu())


def test_a_network_of_integers_takes_the_type_of_its_weights():
    model, ids = Tokens().eval(), torch.arange(6).view(2, 3)
    net = trace(model, (ids,))
    small = apply(net, Plan.random(net, 0.5))
    with torch.no_grad():
        expected = small(ids)
        got = copy.deepcopy(small).half()(ids)
    assert got.dtype == torch.half
    assert_close(got.float(), expected, 0.02)
