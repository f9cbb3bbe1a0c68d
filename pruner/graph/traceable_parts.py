"""Of a model that cannot be traced, the largest parts that can."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from ..utils import group_names
from .canonicalize import canonicalize
from .eval_mode import evaluation_mode
from .exporting import ExportCall, call_export
from .model_state import keep_model
from .name_escapes import alias_children

_LEAST_SHARE = 0.01
"""Parts with less of the model's parameters are not worth naming."""
_MOST_NAMED = 6
Call = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]
"""A module and the arguments of a call of it."""


def describe_traceable_parts(
    model: nn.Module, inputs: tuple[Any, ...], kwargs: Mapping[str, Any], seconds: float = 60.0
) -> str:
    """Describe the largest submodules that can be traced of a model that cannot, within a time.

    The model is run once, to see what its submodules are called with. Those with the most
    parameters are tried first; below one that can be traced, none is. The model is left as it was.

    Returns:
        Dotted names, those that differ in numbers only as one, and their shares of the parameters;
        "" where there are none, or the model itself does not take these inputs.
    """
    until = time.monotonic() + seconds
    whole = max(1, _count_parameters(model))
    paths = {id(part): path for path, part in reversed([*model.named_modules()]) if path}
    with keep_model(model), evaluation_mode(model), torch.random.fork_rng():
        worthwhile = _select_networks(model, _LEAST_SHARE * whole)
        calls = _record_calls(model, inputs, kwargs, worthwhile, until)
        found = _find_largest(model, calls, until)
    shares = {paths[id(part)]: _count_parameters(part) / whole for part in found}
    groups = [
        (name, sum(shares[path] for path in members))
        for name, members in group_names((path, round(share, 3)) for path, share in shares.items())
    ]
    groups.sort(key=lambda group: -group[1])
    named = [f"{name} ({share:.0%} of the parameters)" for name, share in groups[:_MOST_NAMED]]
    left = len(groups) - len(named)
    return ", ".join(named) + (f", and {left} smaller" if left else "")


def _count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _select_networks(model: nn.Module, least: float) -> set[int]:
    """Return the ids of submodules of so many parameters and more than one layer.

    Within a single layer there is nothing to cut.
    """
    return {
        id(part)
        for part in model.modules()
        if _count_parameters(part) >= least and sum(p.dim() > 1 for p in part.parameters()) > 1
    }


def _record_calls(
    model: nn.Module,
    inputs: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    worthwhile: Collection[int],
    until: float,
) -> dict[int, Call]:
    """Return submodules of these ids that are called, with the arguments of their first calls.

    There are none where the model fails: then it is not its parts that matter.
    """
    calls: dict[int, Call] = {}

    def record(part: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        _require_time(until)
        if id(part) in worthwhile and id(part) not in calls:
            # copies: the model may change lists and dictionaries later
            args, keywords = pytree.tree_map(lambda leaf: leaf, (args, keywords))
            calls[id(part)] = (part, args, keywords)

    try:
        with torch.no_grad(), _hook_calls(model, record):
            model(*inputs, **kwargs)
    except Exception:  # whatever the user's network raises
        return {}
    return calls


def _find_largest(model: nn.Module, calls: Mapping[int, Call], until: float) -> list[nn.Module]:
    """Return called submodules that can be traced, none within another, until the time is over."""
    own = {key: _count_parameters(part) for key, (part, _, _) in calls.items()}
    reach = {
        id(part): max(own.get(id(inner), 0) for inner in part.modules()) for part in model.modules()
    }
    found: list[nn.Module] = []
    waiting, seen = [*model.children()], set[int]()
    while waiting and time.monotonic() < until:
        part = max(waiting, key=lambda module: reach[id(module)])
        waiting.remove(part)
        if id(part) in seen or not reach[id(part)]:
            continue
        seen.add(id(part))
        if id(part) in calls and _can_trace(calls[id(part)], until):
            found.append(part)
            seen.update(id(inner) for inner in part.modules())
        else:
            waiting += part.children()
    return found


def _can_trace(call: Call, until: float) -> bool:
    part, args, kwargs = call

    def watch(*_: Any) -> None:
        _require_time(until)

    try:
        with alias_children(part), _hook_calls(part, watch):
            exported = call_export(part, ExportCall(args, kwargs))
            canonicalize(exported, 1, part, lambda target: True)
    except Exception:  # torch.export raises of many kinds
        return False
    return True


@contextmanager
def _hook_calls(model: nn.Module, hook: Callable[..., None]) -> Iterator[None]:
    """Call a function with each submodule that is called, and its arguments, before it runs."""
    handles = [
        part.register_forward_pre_hook(hook, with_kwargs=True)
        for part in model.modules()
        if part is not model
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _require_time(until: float) -> None:
    if time.monotonic() > until:
        raise TimeoutError
