"""A part of a model: what it is called with, and another one in its place."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PrunerError, first_line
from ..utils import suggest_names
from .example_inputs import Example


def splice(model: nn.Module, path: str, part: nn.Module) -> nn.Module:
    """A copy of a model with another module in the place of its submodule ``path``.

    For a part that was pruned by itself: what leaves it keeps its shapes, so the whole runs again.
    The part is shared, all else copied. Plain attributes that the rest of the model may look up on
    the part (``out_channels``, ``config``) are taken over from the old one.

    Raises PrunerError where the model has no such submodule.
    """
    old = find_submodule(model, path)
    new = copy.copy(part)
    for name, value in vars(old).items():
        plain = not isinstance(value, nn.Module | Tensor) and not name.startswith("_")
        if plain and not hasattr(new, name):
            setattr(new, name, value)
    # Wherever the copy meets the old part, also under a second name, it takes the new one.
    return copy.deepcopy(model, {id(old): new.train(old.training)})


def find_submodule(model: nn.Module, path: str) -> nn.Module:
    """The submodule of that dotted name; PrunerError, with similar names, where there is none."""
    known = {k: m for k, m in model.named_modules(remove_duplicate=False) if k}
    if path in known:
        return known[path]
    hint = suggest_names(path, known)
    raise PrunerError(
        f"--submodule: {type(model).__name__} has no {path!r}: "
        + (hint or f"it has {list_submodules(model)}")
    )


def list_submodules(model: nn.Module) -> str:
    """The parts of a model right below it, with their numbers of parameters."""
    counts = {
        name: sum(p.numel() for p in child.parameters()) for name, child in model.named_children()
    }
    found = sorted((name for name in counts if counts[name]), key=lambda name: -counts[name])
    return ", ".join(f"{name} ({counts[name]:,} parameters)" for name in found[:6])


class _Reached(Exception):
    """Ends the pass through the whole model at the part."""


def capture_arguments(model: nn.Module, path: str, example: Example) -> Example:
    """What the model calls its part with first, when it is called with an example itself.

    Raises PrunerError where the part is never called, or the model fails before.
    """
    part, seen = find_submodule(model, path), list[Example]()

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append(Example(args, kwargs))
        raise _Reached

    handle = part.register_forward_pre_hook(before, with_kwargs=True)
    try:
        with torch.no_grad():
            model(*example.args, **example.kwargs)
    except _Reached:
        return seen[0]
    except Exception as error:  # whatever the user's network raises
        raise PrunerError(
            f"{type(model).__name__} fails before it reaches {path!r} (give --input): "
            f"{first_line(error)}"
        ) from error
    finally:
        handle.remove()
    raise PrunerError(
        f"--submodule: {type(model).__name__} never calls {path!r}; give a module that it calls"
    )
