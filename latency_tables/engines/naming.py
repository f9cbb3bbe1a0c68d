"""From the names that engines give to their kernels back to the operators of the graph."""

from __future__ import annotations

import re
from collections.abc import Collection

_SEPARATORS = re.compile(r"[/\s,;+|]+")


def operators_of(name: str, known: Collection[str]) -> tuple[str, ...]:
    """The operators that a kernel's name mentions, in order, each once.

    Exporters call every node and value ``<operator>/<anything>``; engines add prefixes
    ("fused "), suffixes ("_nchwc", "_token_3") and join names of what they fused ("a/x + b/y").
    So: an operator that stands whole before a "/" counts; failing that, the longest known
    operator that the name starts with, if what follows cannot be the rest of another name.
    """
    found: dict[str, None] = {}
    parts = _SEPARATORS.split(name)
    for part in parts:
        if part in known:
            found[part] = None
    if found:
        return tuple(found)
    for end in range(len(name), 0, -1):
        # "relu_1_nchwc" is of relu_1, "relu_12" is not.
        if name[:end] in known and not (name[end : end + 1].isalnum()):
            return (name[:end],)
    return ()
