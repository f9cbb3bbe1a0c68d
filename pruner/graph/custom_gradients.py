"""Notices ``torch.autograd.Function``, of which a graph holds the forward and not the backward."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def notice_functions() -> Iterator[set[str]]:
    """Yield the names of custom autograd functions that are called meanwhile."""
    function, seen = torch.autograd.Function, set[str]()
    original = function.__dict__.get("apply")

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if cls.__module__.partition(".")[0] != "torch":
            seen.add(cls.__qualname__)
        if original is None:
            return super(function, cls).apply(*args, **kwargs)
        return original.__get__(None, cls)(*args, **kwargs)

    function.apply = classmethod(apply)  # type: ignore[assignment]
    try:
        yield seen
    finally:
        if original is None:
            del function.apply
        else:
            function.apply = original  # type: ignore[assignment]


def describe_functions(names: set[str]) -> tuple[str, ...]:
    """Return what the graph lacks of custom autograd functions, in words."""
    if not names:
        return ()
    return (
        f"the gradients that {', '.join(sorted(names))} "
        f"{'defines' if len(names) == 1 else 'define'} (torch.autograd.Function) are not kept: "
        "the rebuilt network trains with those of the operators in its forward, which are zero "
        "where these are steps (sign, round, where)",
    )
