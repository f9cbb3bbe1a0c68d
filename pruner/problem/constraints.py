"""What a user asks of a structure beside its budgets: what stays, how wide, in which steps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

import numpy as np

from solver import Table

from ..errors import PrunerError
from ..structure import Dim, Network, keep_variable, size_variable
from ..utils import suggest_names, wrong_value
from .limits import Limit
from .objective import gate

BLOCKS = "blocks"
"""The resource of a problem that counts the Blocks that are kept."""
_WIDTH = re.compile(r"\s*([0-9]+)\s*(%?)\s*")


@dataclass(frozen=True)
class Constraints:
    """Constraints on structures, by names of Dims and Blocks.

    A name may be a glob (``layer4.*``, ``*.attn``); it stands for the Dims and Blocks that it
    matches and for all below them (``layer4`` is all of ``layer4.*``).

    Attributes:
        limits: Budgets beside that of the latency.
        keep: Dims that stay whole, and Blocks that stay.
        min_width: Glob -> the least size of its Dims: ``16``, or ``50%`` of the uncut size. A Dim
            that is smaller stays whole.
        step: Glob -> the number of which sizes of its Dims are multiples (or the uncut size).
        blocks: Whether Blocks may be dropped.
        max_depth: The most Blocks that may be kept.
        uniform: Globs; the Dims of one kind that one of them matches have the same size.
    """

    limits: tuple[Limit, ...] = ()
    keep: tuple[str, ...] = ()
    min_width: Mapping[str, int | str] = field(default_factory=dict)
    step: Mapping[str, int] = field(default_factory=dict)
    blocks: bool = True
    max_depth: int | None = None
    uniform: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [limit.name for limit in self.limits]
        if twice := {name for name in names if names.count(name) > 1}:
            raise PrunerError(f"{sorted(twice)[0]} is limited more than once")

    def loosen(self, net: Network, share: float) -> Constraints:
        """Return the same with limits part of the way from dense, on a logarithmic scale."""
        return replace(self, limits=tuple(one.loosen(net, share) for one in self.limits))

    def tabulate(self, net: Network) -> tuple[list[Table], dict[str, float]]:
        """Return tables that admit only what is asked for, and the budgets in them; not `limits`.

        Raises:
            PrunerError: A glob that matches nothing, or widths that cannot be the same.
        """
        tables: list[Table] = []
        for name, allowed in self._find_sizes(net).items():
            if not allowed.all():
                values = np.where(allowed, 0.0, -np.inf)
                tables.append(Table(f"sizes of {name}", (size_variable(name),), values, {}))
        stays = set(net.blocks)
        if self.blocks:
            matched = [find_matches(net, one, "keep")[1] for one in self.keep]
            stays = {name for names in matched for name in names}
            stays |= {outer for name in stays for outer in net.blocks[name].inside}
        for name in net.blocks:
            if name in stays:
                kept = np.array([-np.inf, 0.0])
                tables.append(Table(f"{name} stays", (keep_variable(name),), kept, {}))
        for glob in self.uniform:
            tables.extend(_equate_sizes(net, find_matches(net, glob, "uniform", dims=True)[0]))
        if self.max_depth is None or not net.blocks:
            return tables, {}
        for name, block in net.blocks.items():
            gates, gated = gate((*block.inside, name), np.array(1.0))
            tables.append(Table(f"depth of {name}", gates, None, {BLOCKS: gated}))
        return tables, {BLOCKS: float(self.max_depth)}

    def _find_sizes(self, net: Network) -> dict[str, np.ndarray]:
        """Return Dim -> [options] bool: the sizes that may be chosen."""
        allowed = {name: np.ones(len(dim.options()), bool) for name, dim in net.dims.items()}
        for glob in self.keep:
            for name in find_matches(net, glob, "keep")[0]:
                allowed[name][:-1] = False
        for glob, least in self.min_width.items():
            for name in find_matches(net, glob, "min_width", dims=True)[0]:
                dim = net.dims[name]
                allowed[name] &= np.array(dim.options()) >= _read_width(glob, least, dim)
        for glob, step in self.step.items():
            if isinstance(step, bool) or not isinstance(step, int) or step < 1:
                raise wrong_value(f"step of {glob!r}", "a whole number, 1 or more", step)
            for name in find_matches(net, glob, "step", dims=True)[0]:
                sizes = np.array(net.dims[name].options())
                allowed[name] &= (sizes % step == 0) | (sizes == net.dims[name].size)
        return allowed


def find_matches(
    net: Network, glob: str, option: str, dims: bool = False
) -> tuple[list[str], list[str]]:
    """Return the Dims and the Blocks that a glob matches, or that lie below one that it matches.

    Raises:
        PrunerError: It matches neither; with dims, no Dim. The nearest names are told.
    """

    def match(names: Iterable[str]) -> list[str]:
        return [n for n in names if fnmatchcase(n, glob) or fnmatchcase(n, f"{glob}.*")]

    found = match(net.dims), match(net.blocks)
    if found[0] or (found[1] and not dims):
        return found
    known = list(net.dims) if dims else [*net.dims, *net.blocks]
    what = "dim" if dims else "dim or block"
    hint = suggest_names(glob, known, cutoff=0.2) or f"there are {', '.join(known[:6])}"
    if found[1]:
        hint = f"it names blocks only; {hint}"
    raise PrunerError(
        f"{option} {glob!r} matches no {what} of {net.name}: {hint} (msprune inspect lists all)"
    )


def _read_width(glob: str, text: int | str, dim: Dim) -> float:
    """Return the least width of a Dim, the Dim's own where it is smaller."""
    match = _WIDTH.fullmatch(str(text))
    if match is None or isinstance(text, bool):
        raise wrong_value(f"min_width of {glob!r}", "a width such as 16, or a share: 50%", text)
    least = float(match[1])
    return min(least * dim.size / 100 if match[2] else least, dim.size)


def _equate_sizes(net: Network, names: Sequence[str]) -> Iterator[Table]:
    """Yield tables that admit only structures in which Dims of one kind have the same size."""
    kinds: dict[str, list[Dim]] = {}
    for name in names:
        kinds.setdefault(net.dims[name].kind, []).append(net.dims[name])
    for kind, dims in kinds.items():
        shared = set(dims[0].options()).intersection(*(dim.options() for dim in dims))
        if not shared:
            told = ", ".join(f"{dim.name} {list(dim.options())}" for dim in dims[:3])
            raise PrunerError(
                f"uniform: these {kind} have no size in common: {told}; name fewer at a time"
            )
        for one, other in zip(dims, dims[1:]):
            left, right = np.array(one.options()), np.array(other.options())
            equal = left[:, None] == right[None, :]
            scope = (size_variable(one.name), size_variable(other.name))
            values = np.where(equal, 0.0, -np.inf)
            yield Table(f"{one.name} as wide as {other.name}", scope, values, {})
