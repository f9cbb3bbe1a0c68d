"""Explore: who is trained when, what is asked of the solver, and values that come back."""

from __future__ import annotations

from dataclasses import replace
from math import cos, pi
from pathlib import Path

import pytest
import torch

import pruner
from pruner.graph import named_tensors
from pruner.search import NothingFound
from pruner.strategies import Explore
from pruner.strategies.element_mask import ElementMask
from pruner.surgery import find_kept_elements, largest_difference

from ..networks import Attention, Residual
from ..problem.test_constraints import Nested
from .gated_training import RECIPE, start, train


def copy_weights(strategy: Explore) -> dict[str, torch.Tensor]:
    known = strategy.asked.net.program.tensors
    return {
        name: tensor.detach().clone()
        for name, tensor in named_tensors(strategy.module).items()
        if name in known and isinstance(tensor, torch.nn.Parameter)
    }


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("kind", [Residual, Attention, Nested])
def test_only_the_elements_of_the_phase_are_trained(kind, optimizer, tmp_path: Path) -> None:
    asked = start(kind)
    setting = asked.make_setting()
    recipe = replace(RECIPE, optimizer=optimizer, lr=None)
    before = None
    for until in (3, 5, 9):  # H, J, Q of the one round
        strategy = Explore(setting, rounds=1, lengths=(3, 2, 4))
        before = before or copy_weights(strategy)
        train(asked, strategy, tmp_path, until, recipe)
        after, explores = copy_weights(strategy), until == 9
        active = asked.plans[0 if until == 3 else 1][-1]
        moved = {True: 0, False: 0}
        for name, kept in find_kept_elements(asked.net, active).items():
            if name in after:
                changed = before[name] != after[name]
                assert not changed[~kept if not explores else kept].any(), (name, until)
                moved[explores] += int(changed.sum())
        assert moved[explores]
        before = after
        gates = [g for _, g in (*strategy.gates.dims.items(), *strategy.gates.blocks.items())]
        assert all(bool((gate == 1).all()) for gate in gates) == explores
        if not explores:
            x = torch.randn(3, 3, 8, 8)
            with torch.no_grad():
                small = pruner.apply(strategy.read_network(), active)(x)
                assert largest_difference(strategy.module(x), small) < 1e-5


def test_the_solver_is_asked_to_cut_and_to_grow() -> None:
    asked = start(Residual)
    setting = asked.make_setting()
    strategy = Explore(setting, rounds=2, lengths=(2, 1, 1), share=0.4)
    train(asked, strategy)
    found = strategy.conclude()
    grown = asked.pick(found.net, found.scores, setting.budget_ms, beyond=found.beyond)
    first, cut, regrown, cut_again, last = asked.plans
    budget = setting.budget_ms
    less = [0.4 * (1 + cos(pi * number / 2)) / 2 for number in range(2)]
    assert [target for target, *_ in asked.plans] == pytest.approx(
        [budget, (1 - less[0]) * budget, budget, (1 - less[1]) * budget, budget]
    )
    assert first[1] is first[2] is None and last[-1] == grown
    for (*_, wide), (_, within, _, narrow) in ((first, cut), (regrown, cut_again)):
        assert within == wide
        assert all(set(narrow.keep[n]) <= set(wide.keep[n]) for n in narrow.keep)
        assert set(wide.dropped_blocks()) <= set(narrow.dropped_blocks())
    for (*_, narrow), (_, _, beyond, wide) in ((cut, regrown), (cut_again, last)):
        assert beyond == narrow.without_idle_dims(asked.net)
        assert all(set(beyond.keep[n]) <= set(wide.keep[n]) for n in beyond.keep)
        assert set(wide.dropped_blocks()) <= set(narrow.dropped_blocks())


def test_a_round_that_cannot_cut_goes_on() -> None:
    asked, said = start(Residual), list[str]()
    setting = replace(asked.make_setting(), say=said.append)

    def refuse(net, scores, target_ms, within=None, beyond=None):
        if within is not None:
            raise NothingFound("too small")
        return asked.pick(net, scores, target_ms, within, beyond)

    strategy = Explore(replace(setting, pick=refuse), rounds=1, lengths=(1, 1, 1))
    train(asked, strategy)
    assert any("cuts nothing" in line for line in said)
    assert strategy.conclude().beyond == asked.plans[0][-1].without_idle_dims(asked.net)


def test_a_mask_holds_elements_against_momentum_and_decay() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(4, 4)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(2):  # so that there is momentum
        layer(torch.randn(3, 4)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    trained = torch.rand(4, 4) < 0.5
    mask = ElementMask(layer, {"weight": trained, "bias": torch.ones(4, dtype=torch.bool)})
    before = layer.weight.detach().clone()
    layer(torch.randn(3, 4)).square().sum().backward()
    mask.keep()
    assert layer.weight.grad is not None and not layer.weight.grad[~trained].any()
    optimizer.step()
    mask.put_back()
    changed = before != layer.weight
    assert torch.equal(changed, trained) and set(mask.masks) == {layer.weight}
