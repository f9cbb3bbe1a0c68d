"""Checks of values that users give, with one form of message."""

import difflib
from collections.abc import Callable, Iterable
from typing import Any

from ..errors import PrunerError


def wrong_value(where: str, expected: str, got: Any) -> PrunerError:
    """Return the error that says where a value stands, what is expected there and what it is."""
    return PrunerError(f"{where}: expected {expected}, got {got!r}")


def suggest_names(
    name: str,
    known: Iterable[str],
    most: int = 3,
    cutoff: float = 0.5,
    show: Callable[[str], str] = str,
) -> str:
    """Return "did you mean X or Y?" for the known names most like this one; "" without any.

    The cutoff is the least likeness, in (0, 1] (``difflib.get_close_matches``).
    """
    close = difflib.get_close_matches(name, list(known), most, cutoff)
    return f"did you mean {' or '.join(map(show, close))}?" if close else ""
