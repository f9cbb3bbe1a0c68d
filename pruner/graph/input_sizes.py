"""Which input sizes a graph takes: those at which it gives what its model gives.

A size that the model's code reads (to divide by, to reshape to, to interpolate to) stands in the
graph as the number that it was. So the model and its graph are both called at other sizes. Where
they agree, or both refuse, the graph is left alone; else the size is kept, and others are refused.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from ..errors import PrunerError
from .comparison import agree, call_model, call_program, read_leaves
from .program import BATCH_HINT, Program

_MOST_SECONDS = 20.0
"""After so long, sizes that were not tried are kept."""
_TOLERANCE = 1e-3
_LARGE = 128
Place = tuple[int, int]
"""The number of an argument, nested ones taken apart, and one of its axes."""


class InputSize(nn.Module):
    """Returns its input, and refuses one of other sizes than the network was traced with."""

    def __init__(self, sizes: Sequence[int | None]) -> None:
        """Note the sizes of the axes; None: any."""
        super().__init__()
        self.sizes = tuple(sizes)

    def forward(self, x: Tensor) -> Tensor:
        """Return x; PrunerError where a size is another."""
        return check_size(x, self.sizes)

    def extra_repr(self) -> str:
        """Return the settings, as torch prints them."""
        return _format_sizes(self.sizes)


def check_size(x: Tensor, sizes: Sequence[int | None]) -> Tensor:
    """Return x; PrunerError where a size is another (None: any)."""
    for axis, size in enumerate(sizes):
        if size is not None and x.shape[axis] != size:
            what = "sizes of the input" if axis else "the batch"
            raise PrunerError(
                f"the network takes an input of {_format_sizes(sizes)}, got "
                f"{_format_sizes(x.shape)}: its code reads {what}, which tracing made "
                "constant. Trace the model with the size that is wanted"
            )
    return x


fx.wrap("check_size")  # torch.fx traces networks again: it cannot look at sizes


def _format_sizes(sizes: Sequence[int | None]) -> str:
    """Return sizes as ``*x3x224x224``."""
    return "x".join("*" if size is None else str(size) for size in sizes)


@torch.no_grad()
def find_fixed_sizes(
    model: nn.Module, program: Program, inputs: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, tuple[int | None, ...]]:
    """Return the sizes that inputs must have, None for any, by the name of the graph's input.

    Args:
        model: In evaluation mode; it may be left changed.
        program: Its graph; the buffers that it writes may be left changed.
        inputs: The example arguments.
        kwargs: The example keyword arguments.
    """
    leaves = read_leaves(program, inputs, kwargs, most=1)
    if not leaves:
        return {}
    spec = pytree.tree_structure((inputs, dict(kwargs)))
    until = time.monotonic() + _MOST_SECONDS
    fixed: set[Place] = set()
    for places in _group_places(leaves, None if program.batch == BATCH_HINT else program.batch):
        if time.monotonic() > until or _differs_elsewhere(model, program, leaves, spec, places):
            fixed.update(places)
    names = [node.name for node in program.graph.nodes if node.op == "placeholder"]
    return {
        name: tuple(
            size if (number, axis) in fixed else None for axis, size in enumerate(leaf.shape)
        )
        for number, (name, leaf) in enumerate(zip(names, leaves, strict=True))
        if any(place[0] == number for place in fixed)
    }


def _group_places(leaves: Sequence[Any], batch: int | None) -> Iterator[list[Place]]:
    """Yield the axes that are not free, those of equal size together: they may have to be equal."""
    groups: dict[int, list[Place]] = defaultdict(list)
    for number, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor):
            for axis, size in enumerate(leaf.shape):
                if axis == 0 and size == batch:
                    groups[0].append((number, axis))
                elif axis and size > 1:
                    groups[size].append((number, axis))
    yield from groups.values()


def _differs_elsewhere(
    model: nn.Module, program: Program, leaves: list[Any], spec: pytree.TreeSpec,
    places: Sequence[Place],
) -> bool:  # fmt: skip
    """Whether at some other size of these axes the graph does not do as the model does."""
    number, axis = places[0]
    size = leaves[number].shape[axis]
    half, odd = (
        (size // 2 // 32 * 32, 2 * size // 3 | 1) if size >= _LARGE else (2 * size, size + 13 | 1)
    )
    trials = ((half, 0), (odd, 6), (size + 1, 0), (size + 64, 0))
    taken = False
    for chosen, step in trials if axis else ((size + 1, 0), (2 * size, 0)):
        if chosen > size and size >= _LARGE and taken:
            break  # the model is not bound to the size: larger ones tell nothing new
        trial = _resize(leaves, places, chosen, step)
        expected = call_model(model, trial, spec)
        if not agree(call_program(program, trial), expected, _TOLERANCE):
            return True
        taken = taken or expected is not None
    if not taken and len(places) > 1:  # equal by chance
        return any(_differs_elsewhere(model, program, leaves, spec, [one]) for one in places)
    return False


def _resize(leaves: Sequence[Any], places: Sequence[Place], size: int, step: int) -> list[Any]:
    """Return arguments with another size of some axes; of the next one of a tensor, step more."""
    result = list(leaves)
    generator = torch.Generator().manual_seed(0)
    seen: dict[int, int] = defaultdict(int)
    for number, axis in places:
        x = result[number]
        new = size + step * seen[number]
        seen[number] += 1
        index = torch.arange(new, device=x.device) % x.shape[axis]
        x = x.index_select(axis, index)
        if x.is_floating_point():
            x = torch.randn(x.shape, generator=generator).to(x)
        result[number] = x
    return result
