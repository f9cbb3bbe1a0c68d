"""InputSpec: what a user says of one argument of a network, and the example made of all of them.

A text ``[NAME=]SHAPE[:KIND]``: ``1x3x224x224``, ``input_ids=1x64:int``, ``mask=1x64:ones``,
``1x20:int<500``. NAME is a keyword argument; without one, arguments are positional, in order. A dot
nests dictionaries: ``batch.ids=1x64:int`` is a keyword argument ``batch``, and ``.ids=1x64:int`` an
entry of a positional one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PrunerError, first_line
from ..graph import TableReads, evaluation_mode
from ..utils import wrong_value
from .example_inputs import Example, draw_noise

KINDS = ("float", "int", "ones", "zeros", "true")
FORM = (
    "[NAME=]SHAPE[:KIND] such as 1x3x224x224, input_ids=1x64:int or mask=1x64:ones (KIND is float, "
    "int, int<N, ones, zeros or true)"
)
_TEXT = re.compile(
    r"(?:(?P<name>[A-Za-z_.][\w.]*)=)?(?P<shape>\d+(?:[xX]\d+)*)(?::(?P<kind>[a-z]+)(?:<(?P<end>\d+))?)?"
)


@dataclass(frozen=True)
class InputSpec:
    """One argument.

    Attributes:
        name: Of a keyword argument, with dots for what dictionaries hold; "" of a positional one.
        shape: Of the tensor, batch first.
        kind: ``"float"`` (normally distributed), ``"int"`` (whole numbers from 0), ``"ones"`` and
            ``"zeros"`` (whole numbers: masks, segments) or ``"true"``.
        end: Whole numbers are below it; None: as many as the table has that they are looked up in.
    """

    name: str
    shape: tuple[int, ...]
    kind: str = "float"
    end: int | None = None

    @classmethod
    def parse(cls, text: str) -> InputSpec:
        """Read a text; PrunerError says what was expected."""
        found = _TEXT.fullmatch(text.strip())
        if found is None:
            raise wrong_value("input", FORM, text)
        name, shape, kind, end = found["name"] or "", found["shape"], found["kind"], found["end"]
        sizes = tuple(int(part) for part in shape.lower().split("x"))
        parts = name.split(".")[1 if name.startswith(".") else 0 :]
        wrong_name = bool(name) and not all(part.isidentifier() for part in parts)
        kind = kind or "float"
        wrong_end = end is not None and (kind != "int" or int(end) < 1)
        if kind not in KINDS or wrong_end or wrong_name or min(sizes) < 1:
            raise wrong_value("input", FORM, text)
        return cls(name, sizes, kind, None if end is None else int(end))

    def __str__(self) -> str:
        end = "" if self.end is None else f"<{self.end}"
        kind = "" if self.kind == "float" else f":{self.kind}{end}"
        return f"{self.name}{'=' if self.name else ''}{'x'.join(map(str, self.shape))}{kind}"

    def make(self, seed: int) -> Tensor:
        """Return the tensor, the same for the same seed."""
        if self.kind == "float":
            return draw_noise(self.shape, seed)
        if self.kind == "int":
            rng = torch.Generator().manual_seed(seed)
            return torch.randint(0, self.end or 1, self.shape, generator=rng)
        if self.kind == "true":
            return torch.ones(self.shape, dtype=torch.bool)
        return torch.full(self.shape, int(self.kind == "ones"))


def parse_specs(texts: Iterable[str]) -> tuple[InputSpec, ...]:
    """Read the arguments of a call; PrunerError where a name stands twice or for two things."""
    specs = tuple(map(InputSpec.parse, texts))
    names = [spec.name for spec in specs if spec.name]
    for name in names:
        above = any(other.startswith(f"{name}.") for other in names)
        if names.count(name) > 1 or above:
            raise wrong_value("input", "every name once", " ".join(map(str, specs)))
    return specs


def set_batch(specs: Sequence[InputSpec], batch: int | None) -> tuple[InputSpec, ...]:
    """Return arguments of another batch: axis 0 of all whose axis 0 is that of the first."""
    before = specs[0].shape[0]
    return tuple(
        replace(spec, shape=(batch, *spec.shape[1:]))
        if batch is not None and spec.shape[0] == before
        else spec
        for spec in specs
    )


def make_example(module: nn.Module, specs: Sequence[InputSpec]) -> Example:
    """Make the arguments of a call, whole numbers within the tables that they are looked up in.

    Raises:
        PrunerError: The network takes no such arguments, or looks nothing up by numbers whose end
            is not given.
    """
    open_ends = [k for k, spec in enumerate(specs) if spec.kind == "int" and spec.end is None]
    ends = {k: _find_end(module, specs, k) for k in open_ends}
    return _nest([replace(s, end=ends[k]) if k in ends else s for k, s in enumerate(specs)])


def _nest(specs: Sequence[InputSpec]) -> Example:
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for seed, spec in enumerate(specs):
        value = spec.make(seed)
        if not spec.name:
            args.append(value)
            continue
        *path, last = spec.name.split(".")
        where = kwargs
        if path and not path[0]:
            if not args or not isinstance(args[-1], dict):
                args.append({})
            where, path = args[-1], path[1:]
        for part in path:
            where = where.setdefault(part, {})
        where[last] = value
    return Example(tuple(args), kwargs)


def _find_end(module: nn.Module, specs: Sequence[InputSpec], place: int) -> int:
    """Return the size of the smallest table that an argument's numbers are looked up in.

    The network is run on zeros, and on ones in this argument's place: what changes is looked up by
    it.
    """
    runs = []
    for value in (0, 1):
        known = [replace(spec, kind="int", end=1) if spec.kind == "int" else spec for spec in specs]
        known[place] = replace(known[place], kind="ones" if value else "zeros", end=None)
        reads, example = TableReads(), _nest(known)
        try:
            with torch.no_grad(), evaluation_mode(module), reads:
                module(*example.args, **example.kwargs)
        except Exception as error:  # whatever the user's network raises
            if not value:
                said = first_line(error, with_kind=False)
                raise PrunerError(
                    f"--input: the network does not take {', '.join(map(str, specs))}: {said}"
                ) from error
        runs.append(reads.found)
    sizes = [
        size
        for (size, before), (_, after) in zip(*runs)
        if before.shape != after.shape or not torch.equal(before, after)
    ]
    if not sizes:
        spec = specs[place]
        raise PrunerError(
            f"--input {spec}: the network looks nothing up by these numbers, so their range is not "
            f"known: give it, e.g. {replace(spec, end=100)}"
        )
    return min(sizes)
