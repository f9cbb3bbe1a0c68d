"""Which input sizes a graph takes: those at which it gives what its model gives.

A size that the model's code reads (to divide by, to reshape to, to interpolate to) stands in the
graph as the number that it was. So the model and its graph are both called at other sizes. Where
they agree, or both refuse, the graph is left alone; else the size is kept, and others are refused.
"""

import itertools
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
_DOUBLE_COST = 6
"""Calls at twice the size cost so much more than those at half and two thirds of it."""
_MOST_SECONDS_DOUBLE = 3.0
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
    call = _Pair(model, program, leaves, spec)
    fixed: set[Place] = set()
    refused: list[list[Place]] = []
    for places in _group_places(leaves, None if program.batch == BATCH_HINT else program.batch):
        agreed = None if time.monotonic() > until else _try_elsewhere(call, places)
        if agreed is None:
            fixed.update(places)
        elif not agreed:
            refused.append(places)
    for groups in _join_groups(refused):
        places = [place for group in groups for place in group]
        late = time.monotonic() > until
        if fixed.isdisjoint(places) and (late or _differ_together(call, groups)):
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


def _join_groups(groups: list[list[Place]]) -> Iterator[list[list[Place]]]:
    """Yield groups of axes that a model may take other sizes of only together.

    An image and a mask of a quarter of its side: all axes of maps, and any two groups.
    """
    maps = [group for group in groups if all(axis > 1 for _, axis in group)]
    if len(maps) > 2:
        yield maps
    yield from map(list, itertools.combinations(groups, 2))


def _try_elsewhere(call: "_Pair", places: Sequence[Place]) -> bool | None:
    """Return whether the model takes all sizes of these axes, None where the graph differs."""
    number, axis = places[0]
    size = call.leaves[number].shape[axis]
    begin, taken, refused = time.monotonic(), False, False
    for chosen, step in _list_trials(size) if axis else ((size + 1, 0), (2 * size, 0)):
        if size >= _LARGE and taken and chosen > size:  # it is not bound to the size
            seconds = _DOUBLE_COST * (time.monotonic() - begin)
            if chosen != 2 * size or seconds > _MOST_SECONDS_DOUBLE:
                continue
        found = call.compare(_resize(call.leaves, places, chosen, step))
        if found is None:
            return None
        taken, refused = taken or found, refused or not found
    if not taken and len(places) > 1:  # equal by chance
        alone = [_try_elsewhere(call, [one]) for one in places]
        return None if None in alone else all(alone)
    return not refused


def _list_trials(size: int) -> tuple[tuple[int, int], ...]:
    """Return other sizes of an axis, each with how much more the next axis of its tensor gets."""
    if size < _LARGE:
        return (2 * size, 0), (size + 13 | 1, 6), (size + 1, 0), (size + 64, 0), (size // 2, 0)
    half, odd = size // 2 // 32 * 32, 2 * size // 3 | 1
    return (half, 0), (odd, 6), (size + 1, 0), (size + 64, 0), (2 * size, 0)


def _differ_together(call: "_Pair", groups: Sequence[Sequence[Place]]) -> bool:
    """Whether the graph does not do as the model does where groups of axes grow alike."""
    for numerator, denominator in ((2, 1), (3, 2)):
        trial = call.leaves
        for places in groups:
            number, axis = places[0]
            size = call.leaves[number].shape[axis]
            trial = _resize(trial, places, size * numerator // denominator, 0)
        found = call.compare(trial)
        if not found:
            return found is None
    return False


@dataclass(frozen=True)
class _Pair:
    """A model and its graph, called with the same arguments."""

    model: nn.Module
    program: Program
    leaves: list[Any]
    spec: pytree.TreeSpec

    def compare(self, leaves: list[Any]) -> bool | None:
        """Return whether both take these, None where they do not answer alike."""
        expected = call_model(self.model, leaves, self.spec)
        if not agree(call_program(self.program, leaves), expected, _TOLERANCE):
            return None
        return expected is not None


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
