"""A trial cut freezes what a rule gets wrong, in a copy, and is silent about it."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor, fx, nn

from pruner.axes import AxisMap, propagate_axes, validate_axes
from pruner.axes.rules import RULES
from pruner.graph import capture_program

from ..networks import Attention
from ..signatures import describe_axes, describe_program

IMAGE = (torch.zeros(2, 3, 8, 8),)


class Flipped(nn.Module):
    """Tokens and channels exchanged: as many of the one as of the other, so that no size tells."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(x)).transpose(1, 2))


class Exchanged(nn.Module):
    """Exchanges tokens and channels."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


@pytest.fixture
def wrong_rule(monkeypatch):
    """A transpose that is said to leave the axes in their places."""
    monkeypatch.setitem(RULES, "transpose", lambda axis_map, node: axis_map.axes_of(node.args[0]))


def reasons(axis_map: AxisMap) -> set[str]:
    return {reason for reason in describe_axes(axis_map)[1] if reason}


def test_what_is_understood_is_returned_as_it_is():
    axis_map = propagate_axes(capture_program(Attention(), IMAGE, None))
    before = describe_axes(axis_map), describe_program(axis_map.program)
    assert validate_axes(axis_map) is axis_map
    assert (describe_axes(axis_map), describe_program(axis_map.program)) == before


def test_what_is_wrong_is_frozen_in_a_copy(wrong_rule):
    axis_map = propagate_axes(capture_program(Flipped(), (torch.zeros(2, 8, 6),), None))
    before = describe_axes(axis_map), describe_program(axis_map.program)
    found = validate_axes(axis_map)
    assert (describe_axes(axis_map), describe_program(axis_map.program)) == before
    assert not any("follow a cut" in reason for reason in reasons(axis_map))
    assert any("follow a cut" in reason for reason in reasons(found))
    assert describe_axes(validate_axes(axis_map)) == describe_axes(found)


def test_however_much_is_wrong_none_of_it_is_left(wrong_rule):
    layers = [nn.Sequential(nn.Linear(8, 8), nn.ReLU(), Exchanged()) for _ in range(14)]
    model = nn.Sequential(*layers, nn.Linear(8, 3)).eval()
    found = validate_axes(propagate_axes(capture_program(model, (torch.zeros(2, 8, 8),), None)))
    assert sum("follow a cut" in reason for reason in reasons(found)) == 14
    assert validate_axes(found) is found


def test_a_copy_shares_no_atom():
    axis_map = propagate_axes(capture_program(Attention(), IMAGE, None))
    copied = axis_map.freeze_atoms({})
    assert describe_axes(copied) == describe_axes(axis_map)
    own = {id(a) for n in axis_map.tensor_nodes() for a in axis_map.all_axes(n) if a.size > 1}
    other = {id(a) for n in copied.tensor_nodes() for a in copied.all_axes(n) if a.size > 1}
    assert own and not own & other


@pytest.mark.parametrize("level", [logging.NOTSET, logging.WARNING, logging.CRITICAL])
def test_logging_is_disabled_as_it_was(level, wrong_rule):
    axis_map = propagate_axes(capture_program(Flipped(), (torch.zeros(2, 8, 6),), None))
    logging.disable(level)
    try:
        validate_axes(axis_map)
        assert logging.root.manager.disable == level
    finally:
        logging.disable(logging.NOTSET)


def test_logging_is_disabled_as_it_was_after_an_exception(monkeypatch):
    axis_map = propagate_axes(capture_program(Attention(), IMAGE, None))

    def interrupt(*args: object, **settings: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fx.Interpreter, "run", interrupt)
    logging.disable(logging.WARNING)
    try:
        with pytest.raises(KeyboardInterrupt):
            validate_axes(axis_map)
        assert logging.root.manager.disable == logging.WARNING
    finally:
        logging.disable(logging.NOTSET)
