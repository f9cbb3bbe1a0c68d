"""The names and options of the solver's variables, and what a choice of them means in a network."""

from collections.abc import Mapping, Sequence

from .network import Network


def size_variable(dim: str) -> str:
    """Return the name of the variable whose options are a Dim's sizes, ascending."""
    return f"size:{dim}"


def keep_variable(block: str) -> str:
    """Return the name of the variable that drops a Block (option 0) or keeps it (1)."""
    return f"keep:{block}"


def sum_variable(number: int) -> str:
    """Return the name of the variable for the width of a concatenation, counted from 0."""
    return f"sum:{number}"


def encode_choice(
    net: Network, sizes: Mapping[str, int] | None = None, dropped: Sequence[str] = ()
) -> dict[str, int]:
    """Return the option of every size and keep variable at a structure of a network.

    A structure has one of its options for each Dim (one that is not named stays whole), and names
    of dropped Blocks.
    """
    options = {name: dim.options() for name, dim in net.dims.items()}
    choice = {size_variable(name): len(own) - 1 for name, own in options.items()}
    for name, size in (sizes or {}).items():
        choice[size_variable(name)] = options[name].index(size)
    return choice | {keep_variable(name): int(name not in dropped) for name in net.blocks}


def decode_choice(
    net: Network, choice: Mapping[str, int]
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return every Dim's size and the dropped Blocks at a choice of the solver's.

    The inverse of `encode_choice`; other variables are ignored.
    """
    sizes = {name: dim.options()[choice[size_variable(name)]] for name, dim in net.dims.items()}
    return sizes, tuple(name for name in net.blocks if not choice[keep_variable(name)])
