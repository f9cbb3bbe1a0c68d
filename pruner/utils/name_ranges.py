"""Names that differ in numbers only, written as one: ``blocks.{0-11}.mlp``."""

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable
from itertools import groupby
from math import prod

_NUMBER = re.compile(r"\d+")


def group_names(names: Iterable[tuple[str, Hashable]]) -> list[tuple[str, list[str]]]:
    """Group (name, trait) by trait and by name but for its numbers, in order of appearance.

    Returns pairs of a group's name and its members, each once. The name stands for its members
    exactly: where not all combinations of the numbers are there, the group is split by the first of
    them.
    """
    groups: dict[Hashable, dict[str, None]] = defaultdict(dict)
    for name, trait in names:
        groups[_NUMBER.sub("#", name), trait][name] = None
    parts = (part for members in groups.values() for part in _split_complete(list(members)))
    return [(_format_group(part), part) for part in parts]


def _split_complete(names: list[str]) -> list[list[str]]:
    """Split names into groups that hold all combinations of their numbers."""
    columns = _number_columns(names)
    if prod(map(len, columns)) == len(names):
        return [names]
    first = next((i for i, column in enumerate(columns) if len(column) > 1), None)
    if first is None:  # the same numbers, written in several ways: 1 and 01
        return [[name] for name in names]
    groups: dict[int, list[str]] = defaultdict(list)
    for name in names:
        groups[_find_numbers(name)[first]].append(name)
    return [part for group in groups.values() for part in _split_complete(group)]


def _format_group(names: list[str]) -> str:
    parts = _NUMBER.split(names[0])
    pairs = zip(_number_columns(names), parts[1:])
    return parts[0] + "".join(_format_ranges(column) + part for column, part in pairs)


def _number_columns(names: list[str]) -> list[list[int]]:
    """Return the different numbers at every place."""
    return [sorted(set(column)) for column in zip(*map(_find_numbers, names))]


def _find_numbers(name: str) -> list[int]:
    return [int(number) for number in _NUMBER.findall(name)]


def _format_ranges(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return str(numbers[0])
    # Along a run of consecutive numbers, number less place is the same.
    groups = groupby(enumerate(numbers), lambda item: item[1] - item[0])
    runs = [[number for _, number in group] for _, group in groups]
    texts = [f"{r[0]}-{r[-1]}" if len(r) > 2 else ",".join(map(str, r)) for r in runs]
    return "{" + ",".join(texts) + "}"
