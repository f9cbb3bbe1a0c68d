"""Imports what ``package.module:attribute`` names, from the current folder too."""

import functools
import importlib
import importlib.util
import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from ..errors import PrunerError, first_line
from .validation import suggest_names

_NEEDED = frozenset({
    "accelerate", "filelock", "functorch", "highspy", "jinja2", "matplotlib", "mpl_toolkits",
    "numpy", "onnx", "onnxruntime", "onnxscript", "pandas", "PIL", "pip", "pkg_resources",
    "pyarrow", "pydantic", "pylab", "pyomo", "rich", "safetensors", "scipy", "setuptools", "torch",
    "torchgen", "typing_extensions", "wrapt", "yaml",
})  # fmt: skip
"""Packages that are there wherever msprune is, and hold functions that do more than to compute."""


def is_object_name(text: str) -> bool:
    """Return whether a text has the form ``package.module:attribute`` and names no file."""
    return bool(re.fullmatch(r"[\w.]+:[\w.]+", text)) and not os.path.exists(text)


@contextmanager
def search_current_folder() -> Iterator[None]:
    """Import from the current folder too, as ``python -m`` does and a console script does not."""
    folder = os.getcwd()
    added = folder not in sys.path
    if added:
        sys.path.insert(0, folder)
    try:
        yield
    finally:
        if added and folder in sys.path:
            sys.path.remove(folder)


def refuse_library_code(found: Any, name: str, what: str) -> None:
    """Raise PrunerError where a name leads to Python's own library or to one that msprune needs.

    A RUN of someone else names what its model, data and task are made by: the user's own packages
    and those of networks, never a function that starts programs or reads pickles. Networks and data
    sets of torch may be named.

    Args:
        found: What is to be called.
        name: ``package.module:attribute``, by which it was found.
        what: What it is to be, such as ``"data"``, for messages.
    """
    while isinstance(found, functools.partial):
        found = found.func
    if isinstance(found, nn.Module) or (
        isinstance(found, type) and issubclass(found, (nn.Module, Dataset))
    ):
        return
    origins = [name.partition(":")[0]]
    if hasattr(found, "__qualname__"):  # of instances the module would be that of their class
        origins.append(str(found.__module__))
    for origin in origins:
        top = origin.partition(".")[0]
        if top in _NEEDED or _is_standard(top):
            raise PrunerError(f"{what} {name!r} is a part of {top}, which makes none")


def refuse_standard_module(name: str, what: str) -> None:
    """Raise PrunerError where ``package.module:attribute`` is of Python's own library.

    Before it is imported: to import some of them does something already.
    """
    top = name.partition(":")[0].partition(".")[0]
    if _is_standard(top):
        raise PrunerError(f"{what} {name!r} is a part of Python's own library, which makes none")


def _is_standard(top: str) -> bool:
    """Return whether a top-level module is Python's own, not one of the user's with such a name."""
    if top not in sys.stdlib_module_names:
        return False
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # a module that was put there by hand
        return False
    origin = spec.origin if spec is not None else None
    own = sysconfig.get_path("stdlib")
    return origin in (None, "built-in", "frozen") or Path(str(origin)).is_relative_to(own)


def import_object(name: str, what: str) -> Any:
    """Return the attribute that ``package.module:attribute`` names; it may be nested by dots.

    Args:
        name: What the user gave.
        what: What it is to be, such as ``"data"``, for messages.

    Raises:
        PrunerError: The name has no such form, importing fails, there is no such attribute, or it
            is not the user's (`refuse_library_code`).
    """
    module_name, colon, attribute = name.partition(":")
    if not (colon and module_name and attribute):
        raise PrunerError(f"{what} {name!r}: expected package.module:factory")
    with search_current_folder():
        refuse_standard_module(name, what)
        try:
            found: Any = importlib.import_module(module_name)
        except Exception as error:  # whatever the user's module raises
            raise PrunerError(f"{what} {name!r} cannot be imported: {first_line(error)}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            hint = suggest_names(part, [known for known in vars(found) if known[0] != "_"])
            raise PrunerError(
                f"{what} {name!r}: {module_name} has no {part}" + (f": {hint}" if hint else "")
            )
        found = getattr(found, part)
    refuse_library_code(found, name, what)
    return found
