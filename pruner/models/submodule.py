"""A submodule of a model: found, called as its model calls it, and replaced by a pruned one."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..errors import PrunerError, first_line
from ..graph import detach_part, unwrap_model
from ..utils import suggest_names
from .example_inputs import Example


def splice(model: nn.Module, path: str | Sequence[str], part: nn.Module) -> nn.Module:
    """Copy a model with another module in the place of its submodule ``path``.

    A submodule that was pruned by itself returns the shapes of before, so the whole model runs. The
    copy shares it; what the rest of the model may look up on it (``out_channels``,
    ``compute_loss``) is taken over from the old one.

    Args:
        model: The whole.
        path: The part's dotted name; of several parts that were pruned together, all of them.
        part: What takes its place; of several, the one network that they were pruned as; or a
            whole model with pruned parts (`pruner.load`), of which these are taken.

    Raises:
        PrunerError: The model has no such submodule, or some of the parts are not pruned.
    """
    model = unwrap_model(model)
    paths = [path] if isinstance(path, str) else list(path)
    old = find_parts(model, paths)
    given = dict(part.named_modules()) if type(part) is type(model) else {}
    pruned = [copy.copy(m) for k in paths if isinstance(m := given.get(k), fx.GraphModule)]
    if pruned and len(pruned) < len(paths):
        plain = [k for k in paths if not isinstance(given.get(k), fx.GraphModule)]
        raise PrunerError(f"the {type(part).__name__} given holds no pruned {', '.join(plain)}")
    memo: dict[int, Any] = {}
    for before, new in zip(old.values(), pruned or split_parts(part, paths), strict=True):
        for key, value in list_lent_attributes(before).items():
            if not hasattr(new, key):
                setattr(new, key, value)
        # Wherever the copy meets the old part, also under a second name, it takes the new one.
        memo[id(before)] = new.train(before.training)
    return copy.deepcopy(model, memo)


def split_parts(part: nn.Module, paths: Sequence[str]) -> list[nn.Module]:
    """Return a network of several parts as one module a part; a single one as a shallow copy."""
    if len(paths) == 1:
        return [copy.copy(part)]
    if not isinstance(part, fx.GraphModule):
        raise PrunerError(f"a {type(part).__name__} is no network of {', '.join(paths)}")
    return [detach_part(part, number, path) for number, path in enumerate(paths)]


def list_lent_attributes(part: nn.Module) -> dict[str, Any]:
    """Return what the rest of a model may look up on a part beside calling it.

    That are values, no modules and no tensors, and methods, such as the loss of a detector's head.
    Methods are those of a copy without weights: one that computes with them fails.
    """
    found = {
        name: value
        for name, value in vars(part).items()
        if not isinstance(value, nn.Module | Tensor) and not name.startswith("_")
    }
    classes = type(part).__mro__
    own = classes[: classes.index(nn.Module)]
    names = {k for kind in own for k in vars(kind) if not k.startswith("__")}
    names = {k for k in names if k not in found and not hasattr(nn.Module, k)}
    if isinstance(part, fx.GraphModule) or not names:
        return found
    skeleton = _strip_weights(part)
    for name in sorted(names):
        try:
            value = getattr(skeleton, name)
        except Exception:  # a property of weights, or whatever it does
            continue
        if not isinstance(value, nn.Module | Tensor):
            found[name] = value
    return found


def _strip_weights(part: nn.Module) -> nn.Module:
    """Return a copy of a module whose parameters have shapes only."""
    memo: dict[int, Any] = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=False)
        for p in part.parameters()
    }
    return copy.deepcopy(part, memo)


def find_submodule(model: nn.Module, path: str) -> nn.Module:
    """Return the submodule of a dotted name; PrunerError with similar names if there is none."""
    known = {k: m for k, m in model.named_modules(remove_duplicate=False) if k}
    if path in known:
        return known[path]
    hint = suggest_names(path, known) or f"it has {list_submodules(model)}"
    raise PrunerError(f"--submodule: {type(model).__name__} has no {path!r}: {hint}")


def find_parts(model: nn.Module, paths: Sequence[str]) -> dict[str, nn.Module]:
    """Return the submodules of dotted names that are pruned together, by their names.

    Raises:
        PrunerError: There is no such submodule, two names are of one, or one lies within another.
    """
    parts: dict[str, nn.Module] = {}
    for path in paths:
        part = find_submodule(model, path)
        for other, known in parts.items():
            if part is known:
                raise PrunerError(f"--submodule: {other} and {path} are the same module: give one")
            if any(m is known for m in part.modules()) or any(m is part for m in known.modules()):
                inner, outer = sorted((path, other), key=len, reverse=True)
                raise PrunerError(f"--submodule: {inner} lies within {outer}: give one of them")
        parts[path] = part
    return parts


def list_submodules(model: nn.Module) -> str:
    """Describe a model's largest six direct children: names and numbers of parameters."""
    counts = {
        name: sum(p.numel() for p in child.parameters()) for name, child in model.named_children()
    }
    found = sorted((name for name in counts if counts[name]), key=lambda name: -counts[name])
    return ", ".join(f"{name} ({counts[name]:,} parameters)" for name in found[:6])


class _StopForward(Exception):
    """Ends the forward pass of a model at the submodule in question."""


def capture_arguments(model: nn.Module, path: str, example: Example) -> Example:
    """Return the arguments of the first call of a submodule when its model is called with example.

    Raises:
        PrunerError: The submodule is never called, or the model fails before.
    """
    part, calls = find_submodule(model, path), list[Example]()

    def record_call(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append(Example(args, kwargs))
        raise _StopForward

    handle = part.register_forward_pre_hook(record_call, with_kwargs=True)
    try:
        with torch.no_grad():
            model(*example.args, **example.kwargs)
    except _StopForward:
        return calls[0]
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
