"""Widths as functions of variables, against the axes' own arithmetic."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from pruner import Dim, formulate, trace
from pruner.axes import Atom, Product, Sum, axis_size, resolve_axis
from pruner.problem.widths import WidthBuilder

from .test_formulate import Rule, random_importance

DIMS = {name: Dim(name, 8, step, ()) for name, step in (("a", 2), ("b", 3), ("c", 8))}
ATOMS = {name: Atom(8) for name in DIMS}
NET = SimpleNamespace(
    dims=DIMS, atoms=ATOMS, blocks={}, axis_map=SimpleNamespace(batch=Atom(13, "the batch"))
)
AXES = st.recursive(
    st.sampled_from([*ATOMS.values()]) | st.builds(Atom, st.sampled_from([1, 2, 3, 7])),
    lambda inner: st.one_of(st.builds(kind, st.tuples(inner, inner)) for kind in (Sum, Product)),
    max_leaves=7,
)


@settings(max_examples=50, deadline=None)
@given(st.lists(AXES, min_size=1, max_size=3))
def test_a_width_is_the_size_of_its_axis_at_all_options(axes):
    """Those of later axes too, which take over running sums of earlier ones."""
    builder = WidthBuilder(NET)
    widths = [builder.width(axis) for axis in axes]
    for sizes in itertools.product(*(dim.options() for dim in DIMS.values())):
        chosen = {
            f"size:{name}": dim.options().index(size)
            for (name, dim), size in zip(DIMS.items(), sizes)
        }
        for table in builder.tables:  # one option of a concatenation's variable is admitted
            *known, last = table.scope
            admitted = table.value[tuple(chosen[name] for name in known)]
            (chosen[last],) = np.flatnonzero(admitted == 0)
        by_atom = dict(zip(ATOMS.values(), sizes))
        for axis, width in zip(axes, widths):
            found = width.values[tuple(chosen[name] for name in width.variables)]
            assert found == axis_size(axis, by_atom)


def _product(times: int, more: int) -> Product:
    return Product((Atom(times), Sum((ATOMS["a"], Atom(more)))))


@given(AXES, AXES)
@example(_product(3, 2), _product(2, 7))
def test_parts_of_one_key_have_one_width(one, other):
    builder = WidthBuilder(NET)
    one, other = resolve_axis(one), resolve_axis(other)
    sizes = dict(zip(ATOMS.values(), (1_009, 10_007, 100_003)))
    if axis_size(one, sizes) != axis_size(other, sizes):
        assert builder._key(one) != builder._key(other)
    assert builder._key(one) == builder._key(one)


class Flattened(nn.Module):
    """The head reads a, 3 * (a + 2) and 2 * (a + 7): the last two are 30 wide each at a = 8."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(9, 8, 1)
        self.head = nn.Linear(68, 2)

    def forward(self, x):
        y = torch.relu(self.conv(x)).flatten(2)
        x = x.flatten(2)
        three = torch.cat([y, x[:, :2]], 1)[:, :, :3].transpose(1, 2).flatten(1)
        two = torch.cat([y, x[:, 2:]], 1)[:, :, :2].transpose(1, 2).flatten(1)
        return self.head(torch.cat([y.mean(2), three, two], 1))


def test_parts_of_one_uncut_size_and_one_dim_are_told_apart():
    """They shared a key once: the head was taken for a + 4 * (a + 7) wide."""
    net = trace(Flattened().eval(), (torch.zeros(2, 9, 2, 2),), step=2)
    problem = formulate(net, Rule(), random_importance(net, 0), "90%")
    (head,) = (table for table in problem.tables if table.name == "head")
    spec = next(located.cell.spec for located in net.located if located.cell.name == "head")
    assert head.scope == ("size:conv",)
    rows = [net.cell_sizes({"conv": size})["head"] for size in net.dims["conv"].options()]
    assert [row[0] for row in rows] == [32, 44, 56, 68]
    np.testing.assert_allclose(head.cost["latency_ms"], Rule().predict(spec, rows))
