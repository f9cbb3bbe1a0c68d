"""Tables of images with any number of labels each: lists of names, or a column for every class."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import PrunerError
from .text_tables import IMAGE_COLUMNS, read_cells, read_objects

LABEL_COLUMNS = ("labels", "label", "tags", "classes", "categories", "attributes")
_SEPARATORS = "|;,"
_MARKS = {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "false": 0, "": -1}
"""What a cell of a class's column says: there, not there, not known."""


@dataclass(frozen=True)
class LabelTable:
    """Images of one split, and which classes each shows.

    Attributes:
        path: The table's file.
        images: Files, as they stand in it, relative to its folder.
        marks: By class, of every image: 1, 0 (there is no such entry: 0), or -1 where it is not
            known.
        columns: All classes, where the table has a column for each; () where it lists names.
    """

    path: Path
    images: tuple[str, ...]
    marks: tuple[Mapping[str, int], ...]
    columns: tuple[str, ...] = ()


def read_label_table(path: Path, separator: str | None = None) -> LabelTable:
    """Read a table of labels; its form is told by its header.

    JSON lines have an image and ``labels``, a list of names or an object of names and 0 or 1. In
    CSV and TSV a column ``labels`` (or tags, classes...) holds names, separated by ``|``, ``;`` or
    ``,``; or all other columns but the image's are classes, with 1, 0, or nothing where it is not
    known; or, without a header, the image is followed by its labels, a cell each.

    Args:
        path: The file.
        separator: Between names in one cell; None: any of the three.

    Raises:
        PrunerError: It is no such table.
    """
    if path.suffix.lower() == ".jsonl":
        return _read_lines(path, separator)
    cells = read_cells(path)
    if not cells:
        raise PrunerError(f"{path}: no rows of images and labels")
    header = [cell.strip() for cell in cells[0]]
    lower = [name.lower() for name in header]
    image = next((lower.index(name) for name in IMAGE_COLUMNS if name in lower), None)
    if image is None:
        rows = [(line[0], [c.strip() for c in line[1:]]) for line in cells]
        marks = tuple(dict.fromkeys(filter(None, names), 1) for _, names in rows)
        return LabelTable(path, tuple(name for name, _ in rows), marks)
    labels = next((lower.index(name) for name in LABEL_COLUMNS if name in lower), None)
    for number, line in enumerate(cells[1:], 2):
        if len(line) < len(header) and (labels is None or len(line) <= max(image, labels)):
            raise PrunerError(
                f"{path}: line {number} has {len(line)} cells, expected {len(header)}"
            )
    images = tuple(line[image] for line in cells[1:])
    if labels is not None:
        listed = [line[labels:] if labels == len(header) - 1 else [line[labels]]
                  for line in cells[1:]]  # fmt: skip
        marks = tuple(
            dict.fromkeys((name for cell in some for name in _split(cell, separator)), 1)
            for some in listed
        )
        return LabelTable(path, images, marks)
    columns = {name: k for k, name in enumerate(header) if k != image}
    marks = tuple(
        {name: _read_mark(line[k], name, path) for name, k in columns.items()} for line in cells[1:]
    )
    return LabelTable(path, images, marks, tuple(columns))


def _read_lines(path: Path, separator: str | None) -> LabelTable:
    images, marks = [], []
    for number, row in enumerate(read_objects(path), 1):
        image, labels = _find(row, IMAGE_COLUMNS), _find(row, LABEL_COLUMNS)
        if not isinstance(image, str) or labels is None:
            raise PrunerError(
                f"{path}: row {number} has no {'image' if image is None else 'labels'}; expected "
                f"image and labels, found {', '.join(map(str, row)) or 'nothing'}"
            )
        images.append(image)
        if isinstance(labels, Mapping):
            marks.append({
                str(name): _read_mark("" if value is None else str(value), str(name), path)
                for name, value in labels.items()
            })  # fmt: skip
            continue
        names = labels if isinstance(labels, list) else _split(str(labels), separator)
        marks.append(dict.fromkeys(map(str, names), 1))
    if not images:
        raise PrunerError(f"{path}: no rows of images and labels")
    return LabelTable(path, tuple(images), tuple(marks))


def _find(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((row[name] for name in names if name in row), None)


def _split(cell: str, separator: str | None) -> list[str]:
    """Return the names in a cell; none of an empty one."""
    pattern = f"[{re.escape(_SEPARATORS)}]" if separator is None else re.escape(separator)
    return [name.strip() for name in re.split(pattern, cell) if name.strip()]


def _read_mark(cell: str, name: str, path: Path) -> int:
    mark = _MARKS.get(cell.strip().lower())
    if mark is None:
        raise PrunerError(
            f"{path}: column {name!r} holds {cell!r}; expected 1, 0, or nothing where it is not "
            f"known (or one column {LABEL_COLUMNS[0]} with names)"
        )
    return mark
