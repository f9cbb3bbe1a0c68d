"""Progressive: the published schedule, exact zeros at its end, and scores out of training."""

from __future__ import annotations

from math import cos, pi, sqrt
from pathlib import Path

import numpy as np
import pytest
import torch

import pruner
from pruner.errors import PrunerError
from pruner.strategies import Progressive
from pruner.surgery import largest_difference

from ..networks import Attention, Residual
from ..problem.test_constraints import Nested
from .gated_training import start, train


@pytest.mark.parametrize("kind", [Residual, Attention, Nested])
def test_the_gated_network_is_the_cut_one_in_the_end(kind, tmp_path: Path) -> None:
    asked = start(kind)
    setting = asked.make_setting()
    first = Progressive(setting, steps=10, picks=4)
    train(asked, first, tmp_path, first.choice_step)
    targets = [target for target, *_ in asked.plans]
    shares = [sqrt((1 - cos(pi * (t + 1) / 4)) / 2) for t in range(3)]
    whole = setting.dense_ms - setting.budget_ms
    assert targets == pytest.approx([setting.dense_ms - s * whole for s in shares])
    found = first.conclude()
    plan = asked.pick(found.net, found.scores, setting.budget_ms)

    last = Progressive(setting, steps=10, picks=4)
    last.settle(plan)
    train(asked, last, tmp_path)
    assert len(asked.plans) == 4, "what was picked before is not picked again"
    values = [g for _, g in (*last.gates.dims.items(), *last.gates.blocks.items())]
    assert all(bool(((g == 0) | (g == 1)).all()) for g in values)
    x = torch.randn(3, 3, 8, 8)
    small = pruner.apply(last.read_network(), plan)
    with torch.no_grad():
        assert largest_difference(last.module(x), small(x)) < 1e-5
        assert largest_difference(asked.net.module(x), small(x)) > 1e-3, "it was trained"


def test_gates_shrink_as_the_budget_moves(tmp_path: Path) -> None:
    asked = start(Residual)
    strategy = Progressive(asked.make_setting(), steps=9, picks=3)
    train(asked, strategy, tmp_path, 5)
    *_, plan = asked.plans[-1]
    share = sqrt((1 - cos(pi * 2 / 3)) / 2)
    for name, gate in strategy.gates.dims.items():
        kept = np.isin(np.arange(len(gate)), plan.keep[name])
        assert gate.tolist() == pytest.approx(np.where(kept, 1, 1 - share).tolist())


def test_scores_of_gates_are_the_mean_magnitude_of_their_derivatives() -> None:
    asked = start(Residual)
    strategy = Progressive(asked.make_setting(), steps=4, picks=2, by="gates")
    seen: dict[str, list[torch.Tensor]] = {}
    add = strategy.after_backward

    def spy(scale: float) -> None:
        for kind, table in (("dims", strategy.gates.dims), ("blocks", strategy.gates.blocks)):
            for name, gate in table.items():
                assert gate.grad is not None
                seen.setdefault(f"{kind}/{name}", []).append(gate.grad.clone())
        add(scale)

    strategy.after_backward = spy  # type: ignore[method-assign]
    train(asked, strategy, until=2)
    scores = strategy.conclude().scores
    for name, dim in asked.net.dims.items():
        expected = torch.stack(seen[f"dims/{name}"]).abs().mean(0).double().numpy()
        assert scores.total(name) == pytest.approx(expected, rel=1e-5)
        ranked = np.sort(expected)
        lost = [ranked[: dim.size - size].sum() for size in dim.options()]
        assert scores.loss_curves[name] == pytest.approx(lost, rel=1e-5, abs=1e-12)
    for name in asked.net.blocks:
        expected = torch.stack(seen[f"blocks/{name}"]).abs().mean()
        assert scores.blocks[name] == pytest.approx(float(expected), rel=1e-5)
    assert not asked.plans, "before the second interval there is nothing to pick by"


def test_gates_are_not_trained() -> None:
    asked = start(Residual)
    strategy = Progressive(asked.make_setting(), steps=4, picks=2, by="gates")
    train(asked, strategy, until=2)
    assert all(bool((gate == 1).all()) for gate in strategy.untrained)


def test_more_picks_than_steps_are_refused() -> None:
    with pytest.raises(PrunerError, match="2 to 3 picks"):
        Progressive(start(Residual).make_setting(), steps=3, picks=4)
