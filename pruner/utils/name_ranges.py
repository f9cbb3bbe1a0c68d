"""Names that differ in numbers only, said in one: ``blocks.{0-11}.mlp``."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable
from math import prod

_NUMBER = re.compile(r"\d+")


def group_names(names: Iterable[tuple[str, Hashable]]) -> list[tuple[str, list[str]]]:
    """Group (name, trait) by trait and by name but for its numbers, in order of appearance.

    Returns (the family's name, its members). A family's name stands for its members exactly: where
    not all combinations of the numbers are there, it is split by the first of them.
    """
    groups: dict[Hashable, list[str]] = defaultdict(list)
    for name, trait in names:
        groups[_NUMBER.sub("#", name), trait].append(name)
    return [(_said(part), part) for members in groups.values() for part in _complete(members)]


def _complete(names: list[str]) -> list[list[str]]:
    columns = _columns(names)
    if prod(map(len, columns)) == len(names):
        return [names]
    first = next(i for i, column in enumerate(columns) if len(column) > 1)
    groups: dict[int, list[str]] = defaultdict(list)
    for name in names:
        groups[_numbers(name)[first]].append(name)
    return [part for group in groups.values() for part in _complete(group)]


def _said(names: list[str]) -> str:
    parts = _NUMBER.split(names[0])
    pairs = zip(_columns(names), parts[1:])
    return parts[0] + "".join(_ranges(column) + part for column, part in pairs)


def _columns(names: list[str]) -> list[list[int]]:
    """The different numbers at every place."""
    return [sorted(set(column)) for column in zip(*map(_numbers, names))]


def _numbers(name: str) -> list[int]:
    return [int(number) for number in _NUMBER.findall(name)]


def _ranges(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return str(numbers[0])
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    said = [f"{r[0]}-{r[-1]}" if len(r) > 2 else ",".join(map(str, r)) for r in runs]
    return "{" + ",".join(said) + "}"
