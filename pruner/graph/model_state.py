"""Keeps a model as it is while it is run: what code caches at a call is put back afterwards.

``torch.export`` calls a model on tensors without numbers. A module that keeps a tensor of a call
(anchors, position tables, masks) in an attribute, in a list or dictionary, in its class, in a
global or in a ``lru_cache`` would hold one of those from then on.
"""

import functools
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_MOST_HOLDERS = 200_000
_FOREIGN = frozenset(sys.stdlib_module_names | {"torch", "numpy", "pruner"})
"""Packages whose classes and functions keep nothing of a model's call."""
_Cached = functools._lru_cache_wrapper
_DICTIONARIES = (dict, OrderedDict, defaultdict, Counter)
Undo = Callable[[], None]


@contextmanager
def keep_model(model: nn.Module) -> Iterator[None]:
    """Put back afterwards what the model, its classes and the functions that these call hold.

    Attributes, containers, hooks, globals by name, and the numbers of buffers that are written in
    place. A ``lru_cache`` that was written to is emptied: it fills itself again.
    """
    undo = list(_take_snapshot(model))
    try:
        yield
    finally:
        for put_back in undo:
            put_back()


def _take_snapshot(model: nn.Module) -> Iterator[Undo]:
    """Yield functions that put back what is there now, for everything that the model leads to."""
    for buffer in model.buffers():
        if not buffer.is_meta:
            yield functools.partial(_restore_numbers, buffer, buffer.detach().clone())
    waiting: list[Any] = [model]
    # What was seen is kept alive, so that nothing else gets its id.
    seen: dict[int, Any] = {id(sys.modules): sys.modules}
    while waiting and len(seen) < _MOST_HOLDERS:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, Tensor | str | bytes | int | float | None):
            continue
        seen[id(value)] = value
        undo, held = _open(value)
        yield from undo
        waiting += held


def _open(value: Any) -> tuple[list[Undo], list[Any]]:
    """Return how to put back what an object holds, and what it holds."""
    kind = type(value)  # classes derived from containers may compute what they seem to hold
    if kind in _DICTIONARIES:
        return [functools.partial(_restore_dict, value, dict(value))], list(value.values())
    if kind in (list, deque):
        return [functools.partial(_restore_list, value, list(value))], list(value)
    if kind is set:
        return [functools.partial(_restore_set, value, set(value))], []
    if kind in (tuple, frozenset):
        return [], list(value)
    if isinstance(value, functools.partial):
        return [], [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, types.MethodType):
        return [], [value.__func__, value.__self__]
    if isinstance(value, staticmethod | classmethod):
        return [], [value.__func__]
    if isinstance(value, property):
        return [], [value.fget]
    if is_foreign(value):
        return [], [vars(value)] if isinstance(value, nn.Module) else []
    if isinstance(value, _Cached):
        count = value.cache_info().currsize
        return [functools.partial(_clear_cache, value, count)], [value.__wrapped__]
    if isinstance(value, types.FunctionType):
        return _open_function(value)
    if isinstance(value, type):
        held = dict(vars(value))
        undo = functools.partial(_restore_class, value, held)
        return [undo], [*held.values(), *value.__bases__]
    attributes = getattr(value, "__dict__", None)
    if not isinstance(attributes, dict):
        return [], []
    return [], [attributes, type(value)]


def is_foreign(value: Any) -> bool:
    """Return whether an object belongs to a package that keeps nothing of a model's call."""
    if isinstance(value, types.ModuleType):
        return True
    kind = value if isinstance(value, type | types.FunctionType | _Cached) else type(value)
    package = str(getattr(kind, "__module__", None)).partition(".")[0]
    return package in _FOREIGN and package != "__main__"


def _open_function(function: types.FunctionType) -> tuple[list[Undo], list[Any]]:
    """Return how to put back a function's variables outside of it, and their values."""
    space = function.__globals__
    undo: list[Undo] = []
    held: list[Any] = []
    names = {name for code in _walk_code(function.__code__) for name in code.co_names}
    for name in names & space.keys():
        value = space[name]
        if isinstance(value, types.ModuleType):  # utils.table(): co_names has both
            if value.__name__.partition(".")[0] not in _FOREIGN:
                held += map(vars(value).get, names)
            continue
        held.append(value)
        if not callable(value):
            undo.append(functools.partial(_restore_global, space, name, value))
    for cell in function.__closure__ or ():
        try:
            held.append(cell.cell_contents)
        except ValueError:  # not yet assigned
            continue
        undo.append(functools.partial(_restore_cell, cell, cell.cell_contents))
    held += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    return undo, [*held, vars(function)]


def _walk_code(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield a function's code and that of the functions within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _walk_code(constant)


def _restore_dict(holder: dict[Any, Any], content: dict[Any, Any]) -> None:
    if len(holder) != len(content) or any(
        key not in holder or holder[key] is not value for key, value in content.items()
    ):
        holder.clear()
        holder.update(content)


def _restore_list(holder: list[Any] | deque[Any], content: list[Any]) -> None:
    if len(holder) != len(content) or any(a is not b for a, b in zip(holder, content)):
        holder.clear()
        holder.extend(content)


def _restore_set(holder: set[Any], content: set[Any]) -> None:
    if holder != content:
        holder.clear()
        holder.update(content)


def _restore_class(kind: type, content: dict[str, Any]) -> None:
    for name in [*vars(kind)]:
        if name not in content:
            delattr(kind, name)
    for name, value in content.items():
        if vars(kind).get(name) is not value and name not in ("__dict__", "__weakref__"):
            setattr(kind, name, value)


def _restore_global(space: dict[str, Any], name: str, value: Any) -> None:
    if space.get(name) is not value:
        space[name] = value


def _restore_cell(cell: types.CellType, value: Any) -> None:
    if cell.cell_contents is not value:
        cell.cell_contents = value


def _restore_numbers(buffer: Tensor, numbers: Tensor) -> None:
    if not torch.equal(buffer, numbers):
        with torch.no_grad():
            buffer.copy_(numbers)


def _clear_cache(cached: Any, count: int) -> None:
    if cached.cache_info().currsize != count:
        cached.cache_clear()
