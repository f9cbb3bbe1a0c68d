"""Keeps the batch free where it is split into equal parts, such as two views of every image.

How many parts ``chunk`` and ``split`` give, torch asks of the batch, which makes a constant of it.
Where the parts are equal whatever the batch, it need not ask.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import SymInt, Tensor
from torch.overrides import TorchFunctionMode

from .torch_internals import get_hint

_CHUNK = (torch.chunk, Tensor.chunk)
_SPLIT = (torch.split, Tensor.split)


class EvenSplits(TorchFunctionMode):
    """Calls ``split_with_sizes`` for a ``chunk`` or ``split`` of a free size into equal parts."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function, or what splits at given sizes in its place."""
        named = dict(kwargs or {})
        if func in (*_CHUNK, *_SPLIT):
            # whatever they are called: a tensor, a number, and the axis
            given = [*args[:2], *(value for name, value in named.items() if name != "dim")]
            x = next(value for value in given if isinstance(value, Tensor))
            number = next(value for value in given if value is not x)
            dim = named.get("dim", args[2] if len(args) > 2 else 0)
            sizes = _find_parts(x.shape[dim], number, by_count=func in _CHUNK)
            if sizes is not None:
                return torch.split_with_sizes(x, sizes, dim)
        return func(*args, **named)


def _find_parts(size: Any, number: Any, by_count: bool) -> list[Any] | None:
    """Return the sizes of equal parts of a free size; None where it is none, or they differ here.

    Whether they are equal at all other sizes too, torch finds out itself: they must sum to it.

    Args:
        size: The whole.
        number: Of the parts, or of positions in each.
        by_count: Whether it is that of the parts.
    """
    if not isinstance(size, SymInt) or not isinstance(number, int | SymInt):
        return None
    count, rest = divmod(get_hint(size), get_hint(number))
    if rest:
        return None
    return [size // number] * get_hint(number) if by_count else [number] * count
