"""Removable branches: every one is found however its sum is written, and each can really go."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pruner import Plan, apply, trace, verify
from pruner.utils.naming import find_common_path

from ..networks import shake


class Branches(nn.Module):
    """Two branches of a convolution each on one stream, joined as told."""

    def __init__(self, join) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.first = nn.Conv2d(8, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.scale = nn.Parameter(torch.full((8, 1, 1), 0.5))
        self.drop = nn.Dropout()
        self.head = nn.Linear(8, 5)
        self.join = join

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = self.join(x, lambda x: self.first(torch.relu(x)), self)
        x = self.join(x, lambda x: self.second(torch.relu(x)), self)
        return self.head(x.mean((2, 3)))


def in_place(x, branch, net):
    y = branch(x)
    y += x
    return y


def into_the_stream(x, branch, net):
    y = branch(x)
    return x.add_(y)


JOINS = {
    "skip + branch": lambda x, branch, net: x + branch(x),
    "branch + skip": lambda x, branch, net: branch(x) + x,
    "torch.add": lambda x, branch, net: torch.add(x, branch(x)),
    "torch.add with alpha": lambda x, branch, net: torch.add(x, branch(x), alpha=0.5),
    "in place": in_place,
    "into the stream": into_the_stream,
    "sum of a list": lambda x, branch, net: sum([x, branch(x)]),
    "a difference": lambda x, branch, net: x - branch(x),
    "scaled by a number": lambda x, branch, net: branch(x) * 0.2 + x,
    "scaled by a parameter": lambda x, branch, net: x + net.scale * branch(x),
    "addcmul": lambda x, branch, net: torch.addcmul(x, net.scale, branch(x)),
    "dropped out": lambda x, branch, net: x + net.drop(net.scale * branch(x)),
    "normalized stream": lambda x, branch, net: 0.7 * x + 0.7 * branch(x),
    "relu after": lambda x, branch, net: torch.relu(branch(x) + x),
}


def assert_every_block_goes(model, net, width=1.0):
    """Each block in turn and all together, whole widths and cut ones: equal to the oracle."""
    assert net.blocks
    keep = {n: tuple(range(max(1, int(width * d.size)))) for n, d in net.dims.items()}
    for gone in [*([name] for name in net.blocks), list(net.blocks)]:
        plan = Plan(keep, dict.fromkeys(gone, False))
        assert verify(model, net, plan) < 1e-10, gone
        theirs = {s.tensor for d in net.dims.values() for s in d.slots if {*s.blocks} & {*gone}}
        assert not theirs & set(apply(net, plan).state_dict())


@pytest.mark.parametrize("join", JOINS)
def test_a_branch_is_found_however_it_joins(join):
    model = shake(Branches(JOINS[join])).double()
    net = trace(model, (torch.zeros(2, 3, 8, 8, dtype=torch.float64),))
    assert list(net.blocks) == ["first", "second"]
    assert_every_block_goes(model, net)
    assert_every_block_goes(model, net, width=0.5)


class Odd(nn.Module):
    """What looks like a residual sum, as told."""

    def __init__(self, forward) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)
        self.norm = nn.BatchNorm2d(8)
        self.shift = nn.Parameter(torch.ones(8, 1, 1))
        self.head, self.other = nn.Linear(8, 5), nn.Linear(8, 5)
        self.body = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


def read_twice(net, x):
    x = net.a(x)
    y = net.b(x)
    return net.head((x + y).mean((2, 3))) + net.other(y.mean((2, 3)))


def two_answers(net, x):
    x = net.a(x).mean((2, 3))
    return (net.head(x) + net.other(x)) / 2


def a_shift(net, x):
    return net.head((net.a(x) + net.shift).mean((2, 3)))


def a_gate(net, x):
    x = net.a(x)
    return net.head((x * torch.sigmoid(net.b(x))).mean((2, 3)))


def pooled_and_normalized(net, x):
    x = net.a(x)
    return net.head((x + net.norm(x)).mean((2, 3)))


def broadcast(net, x):
    x = net.a(x)
    return net.head((x.mean((2, 3), keepdim=True) + net.b(x)).mean((2, 3)))


def doubled(net, x):
    x = net.b(net.a(x))
    return net.head((x + x).mean((2, 3)))


NO_BLOCKS = (read_twice, two_answers, a_shift, a_gate, pooled_and_normalized, broadcast, doubled)


@pytest.mark.parametrize("forward", NO_BLOCKS)
def test_what_is_no_branch_is_not_taken_for_one(forward):
    assert not trace(Odd(forward), (torch.zeros(2, 3, 8, 8),)).blocks


def test_an_input_that_is_read_by_a_branch_alone_stays():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(4, 8), nn.Linear(8, 3)

        def forward(self, x, y):
            return self.c(torch.relu(self.a(x) + self.b(y)))

    assert not trace(Two(), (torch.zeros(2, 6), torch.zeros(2, 4))).blocks


class Pooling(nn.Module):
    """A pooling mixer without a weight (MetaFormer), within an outer branch, beside another."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(n, 8, 3, padding=1) for n in (3, 8, 8))
        self.pool = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.a(x))
        y = self.b(x)
        y = y + (self.pool(y) - y)
        x = x + y + self.c(x)
        return self.head(x.mean((2, 3)))


def test_nested_and_parallel_branches():
    model = shake(Pooling()).double()
    net = trace(model, (torch.zeros(2, 3, 8, 8, dtype=torch.float64),))
    assert {name: block.inside for name, block in net.blocks.items()} == {
        "pool": ("b",), "b": (), "c": (),
    }  # fmt: skip
    assert_every_block_goes(model, net)


@pytest.mark.parametrize(
    ("paths", "common"),
    [
        (["a.b.c", "a.b.d"], "a.b"),
        (["a.b"], "a.b"),
        (["a", "b"], ""),
        (["ab.c", "a.c"], ""),
        ([], ""),
    ],
)
def test_common_path(paths, common):
    assert find_common_path(paths) == common
