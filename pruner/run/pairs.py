"""Reads options of the command line that hold a name and a value."""

from collections.abc import Iterable
from typing import Any

from ..utils import parse_yaml, wrong_value

_EXPECTED = {"--arg": "NAME=VALUE", "--set": "ENTRY=VALUE, e.g. finetune.lr=0.01"}
"""What options with pairs take, whose names hold no ``=``."""


def parse_pairs(flag: str, texts: Iterable[str]) -> dict[str, Any]:
    """Read ``NAME=VALUE`` texts, each value as YAML: numbers, true, lists, text.

    Names are identifiers for ``--arg``, entries (``finetune.lr``) for ``--set``, and may be globs
    for any other option.
    """
    found: dict[str, Any] = {}
    expected, known = _EXPECTED.get(flag, "GLOB=N"), flag in _EXPECTED
    for text in texts:
        name, equals, value = text.partition("=") if known else text.rpartition("=")
        if not equals or not name or (flag == "--arg" and not name.isidentifier()):
            raise wrong_value(flag, expected, text)
        try:
            found[name] = parse_yaml(value)
        except ValueError:
            raise wrong_value(flag, expected, text) from None
    return found
