"""Arguments that are no tensors: what their values decided while a graph was read stands in it.

A number, a text or None among the example arguments leaves no trace in the graph, which takes any
other value without a word. So the model is called with another one: where it then answers
otherwise, the value is kept, and others are refused.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from ..errors import PrunerError
from .comparison import agree, call_model, read_leaves
from .program import Program

_MOST_SECONDS = 10.0
"""After so long, values that were not tried are kept."""
_TOLERANCE = 1e-6
_PLAIN = (bool, int, float, str)


class InputValues(nn.Module):
    """Returns its first input, and refuses others than the values that the network was traced with.

    None and False are taken for one another: both leave something out.
    """

    def __init__(self, names: Sequence[str], values: Sequence[Any]) -> None:
        """Note the arguments' names and values."""
        super().__init__()
        self.names, self.values = tuple(names), tuple(values)

    def forward(self, x: Any, *given: Any) -> Any:
        """Return x; PrunerError where a value is another."""
        return check_values(x, given, self.names, self.values)

    def extra_repr(self) -> str:
        """Return the settings, as torch prints them."""
        return ", ".join(f"{name}={value!r}" for name, value in zip(self.names, self.values))


def check_values(x: Any, given: Sequence[Any], names: Sequence[str], values: Sequence[Any]) -> Any:
    """Return x; PrunerError where a given value is another than the one of that name."""
    for name, value, expected in zip(names, given, values, strict=True):
        if not _is_same(value, expected):
            shown = f"a {type(value).__name__}" if isinstance(value, Tensor) else repr(value)
            raise PrunerError(
                f"the network was traced with {name}={expected!r}, which its graph has become: got "
                f"{shown}. Trace the model with the value that is wanted"
            )
    return x


fx.wrap("check_values")  # torch.fx traces networks again: it cannot look at values


def _is_same(value: Any, expected: Any) -> bool:
    if value is None or value is False:
        return expected is None or expected is False
    return isinstance(value, _PLAIN) and bool(value == expected)


@torch.no_grad()
def find_fixed_values(
    model: nn.Module, program: Program, inputs: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the values that arguments must have, by the name of the graph's input.

    What the model does not look at (the name of an image in a dictionary of inputs) may be any. In
    the place of None may stand what nobody knows: it is kept untried.

    Args:
        model: In evaluation mode; it may be left changed.
        program: Its graph.
        inputs: The example arguments.
        kwargs: The example keyword arguments.
    """
    leaves = read_leaves(program, inputs, kwargs, most=1)
    found: dict[str, Any] = {}
    if not any(leaf is None or isinstance(leaf, _PLAIN) for leaf in leaves):
        return found
    spec = pytree.tree_structure((inputs, dict(kwargs)))
    until = time.monotonic() + _MOST_SECONDS
    expected = call_model(model, leaves, spec)
    names = [node.name for node in program.graph.nodes if node.op == "placeholder"]
    for number, (name, leaf) in enumerate(zip(names, leaves, strict=True)):
        if leaf is None:
            found[name] = None
        elif isinstance(leaf, _PLAIN) and expected is not None:
            trial = [*leaves[:number], _change(leaf), *leaves[number + 1 :]]
            late = time.monotonic() > until
            if late or not agree(call_model(model, trial, spec), expected, _TOLERANCE):
                found[name] = leaf
    return found


def _change(value: Any) -> Any:
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return f"{value}_"
    return value + 1 if isinstance(value, int) else 1.5 * value + 0.25
