"""Propagation reads a Program and leaves it as it was, though rules rewrite arguments."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pruner.axes import propagate_axes
from pruner.graph import capture_program

from ..signatures import describe_axes, describe_program


class Rewritten(nn.Module):
    """An attention whose scale follows its width, and slices counted from the end."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(nn.functional.scaled_dot_product_attention(x, x, x)[..., -4:])


def test_the_program_is_left_as_it_was():
    program = capture_program(Rewritten(), (torch.zeros(2, 5, 6),), None)
    before = describe_program(program)
    axis_map = propagate_axes(program)
    assert describe_program(program) == before
    assert describe_program(axis_map.program) != before
    assert "scale" in str(axis_map.program.graph)


def test_twice_is_the_same():
    program = capture_program(Rewritten(), (torch.zeros(2, 5, 6),), None)
    first, second = propagate_axes(program), propagate_axes(program)
    assert describe_axes(first) == describe_axes(second)
    assert describe_program(first.program) == describe_program(second.program)
