"""How torch takes operators apart that nothing here knows.

A composite operator (``tensor_split``, ``lstm_cell``, ``cosine_similarity``) is a short program
over others: torch has one, in C++ for those that it calls composite, in Python for some more. What
such a program calls may be known where the operator itself is not.
"""

from collections.abc import Callable, Collection, Iterable
from functools import cache
from typing import Any

import torch

from .torch_internals import composite_kernel, is_operator

Decompositions = dict[Any, Callable[..., Any]]


def find_decompositions(
    targets: Iterable[Any], is_known: Callable[[Any], bool], tried: Collection[Any] = ()
) -> Decompositions:
    """Return how to take apart each called operator that is not known, of those that can be."""
    return {
        target: decompose
        for target in dict.fromkeys(targets)
        if is_operator(target) and target not in tried and not is_known(target)
        if (decompose := _find_decomposition(target)) is not None
    }


def _find_decomposition(target: Any) -> Callable[..., Any] | None:
    return composite_kernel(target) or _load_core_decompositions().get(target)


@cache
def _load_core_decompositions() -> Decompositions:
    """Return what torch writes in Python over its core operators (it takes a moment to list)."""
    return dict(torch.export.default_decompositions().items())
