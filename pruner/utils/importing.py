"""Imports what ``package.module:attribute`` names, from the current folder too."""

import importlib
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import PrunerError, first_line
from .validation import suggest_names


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


def import_object(name: str, what: str) -> Any:
    """Return the attribute that ``package.module:attribute`` names; it may be nested by dots.

    Args:
        name: What the user gave.
        what: What it is to be, such as ``"data"``, for messages.

    Raises:
        PrunerError: The name has no such form, importing fails, or there is no such attribute.
    """
    module_name, colon, attribute = name.partition(":")
    if not (colon and module_name and attribute):
        raise PrunerError(f"{what} {name!r}: expected package.module:factory")
    with search_current_folder():
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
    return found
