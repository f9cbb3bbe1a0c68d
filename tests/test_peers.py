"""The other tools' ways to choose, against plain enumeration and hand-made cuts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from benchmarks.peers import METHODS, Setting, _match_rows, _read_history, _solve_knapsack
from pruner import Plan, PlanError, apply, predict, trace

from .pruner.networks import Residual
from .pruner.problem.test_formulate import Rule, random_importance, traced


@pytest.fixture
def setting(tmp_path):
    torch.manual_seed(0)
    batches = [(torch.randn(4, 3, 8, 8), torch.arange(4)) for _ in range(2)]
    net = traced(Residual, 2)
    return Setting(net.module, net, Rule, batches, tmp_path)


OTHERS = ("torch-pruning", "fastnas")  # they choose by libraries that are not always there


@pytest.mark.parametrize("name", [n for n in METHODS if not n.startswith(OTHERS)])
def test_a_larger_knob_keeps_more_and_every_plan_is_a_network(name, setting):
    method = METHODS[name](setting)
    dense = predict(setting.net, setting.table)
    costs = []
    for knob in (0.4, 0.6, 0.8, 1.0):
        plan = method.plan(knob)
        costs.append(
            predict(method.net, setting.table, plan.sizes(), plan.dropped_blocks()) / dense
        )
        with torch.no_grad():
            assert apply(method.net, plan)(setting.batches[0][0]).shape == (4, 5)
    assert costs == sorted(costs) and costs[0] < 0.75 and costs[-1] > 0.99


@pytest.mark.parametrize("share", [0.5, 0.75, 0.8, 0.9])
def test_halps_solve_knapsack_against_enumeration(share):
    """A channel costs what its writers save, input widths frozen; the least where nothing fits."""
    net, table = traced(Residual, 2), Rule()
    scores = random_importance(net, 3)
    first = _solve_knapsack(net, table, Plan.dense(net), scores, 0.9)
    for before in (Plan.dense(net), first):
        sizes, specs = before.sizes(), {c.name: c.spec for c in net.cells()}
        base = net.cell_sizes(sizes)
        dense = sum(table.predict(c.spec, [c.dense_sizes])[0] for c in net.cells())

        def frozen(wanted, base=base, specs=specs):
            total = 0.0
            for cell, widths in net.cell_sizes(wanted).items():
                writes = any(s.cell == cell and s.role == "out" for d in net.dims.values()
                             for s in d.slots)  # fmt: skip
                row = (*base[cell][:-1], widths[-1]) if writes else base[cell]
                total += table.predict(specs[cell], [row])[0]
            return total

        def value(wanted):
            return sum(np.sort(scores.total(n))[::-1][:k].sum() for n, k in wanted.items())

        choices = [[n for n in d.options() if n <= sizes[d.name]] for d in net.dims.values()]
        every = [dict(zip(net.dims, c)) for c in itertools.product(*choices)]
        fitting = [s for s in every if frozen(s) <= share * dense + 1e-9]
        found = _solve_knapsack(net, table, before, scores, share)
        if not fitting:
            fitting = [s for s in every if frozen(s) <= min(map(frozen, every)) + 1e-9]
        assert frozen(found.sizes()) <= max(map(frozen, fitting)) + 1e-9
        assert value(found.sizes()) == pytest.approx(max(map(value, fitting)))
        assert all(set(found.keep[n]) <= set(before.keep[n]) for n in net.dims)


def test_a_history_of_torch_pruning_is_a_plan_or_is_refused():
    net = traced(Residual, 2)
    module = Residual(stream=8, inner=4).eval()
    history = [("a1", True, [1, 4]), ("b1", True, [0, 5])]
    plan = _read_history(net, module, history)
    kept = {tuple(k) for n, k in plan.keep.items() if len(k) < net.dims[n].size}
    assert kept == {(0, 2, 3, 5), (1, 2, 3, 4)}
    with pytest.raises(PlanError, match="couples layers otherwise"):
        _read_history(net, module, history[:1])


def test_fastnas_keeps_the_first_of_its_order_and_less_for_a_smaller_knob(tmp_path):
    pytest.importorskip("modelopt", reason="nvidia-modelopt is not installed")
    torch.manual_seed(0)
    model = Residual(stream=16, inner=32, wide=24).eval()
    batches = [(torch.randn(4, 3, 8, 8), torch.arange(4)) for _ in range(2)]
    net = trace(model, batches[0][0])
    method = METHODS["fastnas"](Setting(model, net, Rule, batches, tmp_path))
    plans = [method.plan(knob) for knob in np.linspace(0, 1, 9)]
    for small, large in zip(plans, plans[1:]):
        assert all(set(small.keep[name]) <= set(large.keep[name]) for name in net.dims)
    assert plans[0].sizes()["a1"] == plans[0].sizes()["b1"] == 8
    with torch.no_grad():
        assert apply(net, plans[0])(batches[0][0]).shape == (4, 5)


def test_rows_are_found_again_when_columns_have_moved_too():
    original = torch.randn(6, 4, 3, 3)
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    assert (
        _match_rows(original[order][:, torch.tensor([2, 0, 3, 1])], original).tolist()
        == order.tolist()
    )


def test_uniform_meets_many_latencies(setting):
    """Dims of one size do not all change at once."""
    method = METHODS["uniform"](setting)
    costs = {
        predict(setting.net, setting.table, method.plan(knob).sizes())
        for knob in np.linspace(0.1, 1, 40)
    }
    assert len(costs) >= 12
