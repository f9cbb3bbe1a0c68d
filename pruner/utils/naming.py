"""Names that tell things of one network apart."""

from collections.abc import Container, Iterable
from itertools import chain, count, takewhile


def choose_unused_name(name: str, taken: Container[str]) -> str:
    """Return the name, numbered where it is taken."""
    names = chain([name], (f"{name}#{number}" for number in count(2)))
    return next(each for each in names if each not in taken)


def find_common_path(paths: Iterable[str]) -> str:
    """Return the innermost module that all dotted names lie in; empty for the network itself."""
    levels = zip(*(path.split(".") for path in paths))
    return ".".join(level[0] for level in takewhile(lambda level: len(set(level)) == 1, levels))
