"""What the columns look at: one architecture, traced and cut."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

MOST_DIFFERENCE = 1e-4
"""Relative difference of outputs up to which two networks are said to answer alike."""


class Failure(Exception):
    """A column that does not pass; the message says by how much, or in what."""


@dataclass(frozen=True)
class Subject:
    """A user's model with its example call, its Network, and the random plan that cuts it."""

    model: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    net: Any
    plan: Any

    @cached_property
    def small(self) -> Any:
        """The pruned module, in eval mode."""
        from pruner import apply

        return apply(self.net, self.plan)

    @cached_property
    def expected(self) -> Any:
        """What the pruned module says to the example call."""
        return self.call(self.small)

    @cached_property
    def dense(self) -> Any:
        """What the rebuilt dense network says to the example call."""
        return self.call(self.net.module)

    def call(self, module: Any, change: Callable[[Any], Any] | None = None) -> Any:
        """Call a module as the example does, its tensors changed."""
        import torch

        args, kwargs = self.change(change)
        with torch.no_grad():
            return module(*args, **kwargs)

    def change(self, change: Callable[[Any], Any] | None) -> Any:
        """Return the example's (args, kwargs), their tensors changed."""
        import torch
        from torch.utils import _pytree as pytree

        def change_tensor(leaf: Any) -> Any:
            return change(leaf) if change and isinstance(leaf, torch.Tensor) else leaf

        return pytree.tree_map(change_tensor, (self.args, self.kwargs))


def require_equal(got: Any, expected: Any, most: float = MOST_DIFFERENCE) -> float:
    """Return the largest relative difference of two results; raise Failure above the limit."""
    from pruner.surgery import largest_difference

    delta = largest_difference(select_tensors(got), select_tensors(expected))
    if not delta <= most:
        raise Failure(f"differs by {delta:.1e}")
    return delta


def select_tensors(result: Any, floats: bool = False) -> list[Any]:
    """Return the tensors (of floats) in a nested result."""
    import torch
    from torch.utils import _pytree as pytree

    tensors = [x for x in pytree.tree_leaves(result) if isinstance(x, torch.Tensor)]
    return [x for x in tensors if x.is_floating_point() or not floats]
