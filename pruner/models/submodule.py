"""A submodule of a model: found, called as its model calls it, and replaced by a pruned one."""

import copy
import time
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PrunerError, first_line
from ..graph import capture_program, evaluation_mode, unwrap_model
from ..utils import suggest_names
from .example_inputs import Example


def splice(model: nn.Module, path: str, part: nn.Module) -> nn.Module:
    """Copy a model with another module in the place of its submodule ``path``.

    A submodule that was pruned by itself returns the shapes of before, so the whole model runs. The
    copy shares it; plain attributes that the rest of the model may look up on it (``out_channels``,
    ``config``) are taken over from the old one.

    Raises:
        PrunerError: The model has no such submodule.
    """
    model = unwrap_model(model)
    old = find_submodule(model, path)
    new = copy.copy(part)
    for name, value in list_plain_attributes(old).items():
        if not hasattr(new, name):
            setattr(new, name, value)
    # Wherever the copy meets the old part, also under a second name, it takes the new one.
    return copy.deepcopy(model, {id(old): new.train(old.training)})


def list_plain_attributes(part: nn.Module) -> dict[str, Any]:
    """Return attributes that the rest of a model may look up on it: no modules, no tensors."""
    return {
        name: value
        for name, value in vars(part).items()
        if not isinstance(value, nn.Module | Tensor) and not name.startswith("_")
    }


def find_submodule(model: nn.Module, path: str) -> nn.Module:
    """Return the submodule of a dotted name; PrunerError with similar names if there is none."""
    known = {k: m for k, m in model.named_modules(remove_duplicate=False) if k}
    if path in known:
        return known[path]
    hint = suggest_names(path, known) or f"it has {list_submodules(model)}"
    raise PrunerError(f"--submodule: {type(model).__name__} has no {path!r}: {hint}")


def list_submodules(model: nn.Module) -> str:
    """Describe a model's largest six direct children: names and numbers of parameters."""
    counts = {
        name: sum(p.numel() for p in child.parameters()) for name, child in model.named_children()
    }
    found = sorted((name for name in counts if counts[name]), key=lambda name: -counts[name])
    return ", ".join(f"{name} ({counts[name]:,} parameters)" for name in found[:6])


class _StopForward(Exception):
    """Ends the forward pass of a model at the submodule in question."""


def find_traceable_parts(model: nn.Module, example: Example, seconds: float = 60.0) -> str:
    """Describe the largest submodules that can be traced of a model that cannot, within a time.

    The model is run once, to see what its submodules are called with. Those with the most
    parameters are tried first; below one that can be traced, none is.
    """
    calls = _record_calls(model, example)
    paths = {id(part): path for path, part in reversed([*model.named_modules()]) if path}
    sizes = {key: sum(p.numel() for p in part.parameters()) for key, (part, _) in calls.items()}
    whole = max(1, sum(p.numel() for p in model.parameters()))
    until, waiting, found = time.monotonic() + seconds, [model], []
    while waiting and time.monotonic() < until:
        waiting.sort(key=lambda part: sizes.get(id(part), _count_below(part, sizes)))
        part = waiting.pop()
        path, call = paths.get(id(part)), calls.get(id(part))
        if path is not None and call is not None and _can_trace(part, call[1]):
            found.append(f"{path} ({sizes[id(part)] / whole:.0%} of the parameters)")
        else:
            waiting += [child for child in part.children() if _count_below(child, sizes)]
    return ", ".join(found[:6])


def _count_below(part: nn.Module, sizes: Mapping[int, int]) -> int:
    """Return the number of parameters of the largest module in it that is called."""
    return max((sizes.get(id(module), 0) for module in part.modules()), default=0)


def _record_calls(model: nn.Module, example: Example) -> dict[int, tuple[nn.Module, Example]]:
    """Return every submodule that is called, and the arguments of its first call, by its id."""
    calls: dict[int, tuple[nn.Module, Example]] = {}

    def record(part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.setdefault(id(part), (part, Example(args, kwargs)))

    handles = [
        part.register_forward_pre_hook(record, with_kwargs=True)
        for part in model.modules()
        if part is not model
    ]
    try:
        with torch.no_grad(), evaluation_mode(model):
            model(*example.args, **example.kwargs)
    except Exception:  # what was called before it failed is known all the same
        return calls
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _can_trace(part: nn.Module, call: Example) -> bool:
    if not any(True for _ in part.children()):
        return False  # a single layer is no network
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            capture_program(part, call.args, call.kwargs)
    except Exception:  # torch.export raises of many kinds
        return False
    return True


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
