"""Names that tell things of one network apart."""

from collections.abc import Container, Iterable
from itertools import takewhile


def choose_unused_name(name: str, taken: Container[str]) -> str:
    """Return the name, numbered where it is taken."""
    if name not in taken:
        return name
    number = 2
    while f"{name}#{number}" in taken:
        number += 1
    return f"{name}#{number}"


def find_common_path(paths: Iterable[str]) -> str:
    """Return the innermost module that all dotted names lie in; empty for the network itself."""
    levels = zip(*(path.split(".") for path in paths))
    return ".".join(level[0] for level in takewhile(lambda level: len(set(level)) == 1, levels))
