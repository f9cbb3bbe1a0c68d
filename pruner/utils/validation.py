"""Checks of values that users give, with one form of message."""

from __future__ import annotations

from typing import Any

from ..errors import PrunerError


def wrong_value(where: str, expected: str, got: Any) -> PrunerError:
    return PrunerError(f"{where}: expected {expected}, got {got!r}")


def require(condition: bool, where: str, expected: str, got: Any) -> None:
    if not condition:
        raise wrong_value(where, expected, got)
