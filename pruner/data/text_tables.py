"""Tables of texts: rows of JSON lines, CSV or TSV, by the names of their columns."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

from ..errors import PrunerError
from .folders import find_splits

IMAGE_COLUMNS = ("image", "file_name", "filename", "file", "filepath", "path", "img")
TEXT_COLUMNS = ("text", "caption", "label", "word", "transcription", "sentence")
ENDINGS = (".jsonl", ".csv", ".tsv")


@dataclass(frozen=True)
class ImageTable:
    """Images of one split and the text of each; an image may stand in several rows.

    Attributes:
        path: The table's file.
        images: Files.
        texts: In the same order.
    """

    path: Path
    images: tuple[Path, ...]
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """The number of every row's image: 0 for the first, the same for the same file."""
        first: dict[Path, int] = {}
        return tuple(first.setdefault(path, len(first)) for path in self.images)

    def list_rows(self) -> list[tuple[str, str]]:
        """Return names of images and texts, for a fingerprint."""
        root = self.path.parent
        names = [str(p.relative_to(root)) if root in p.parents else str(p) for p in self.images]
        return list(zip(names, self.texts, strict=True))


def find_image_tables(
    root: Path, stems: Sequence[str], skip: bool
) -> tuple[dict[str, ImageTable], list[str]]:
    """Find the table of every split, and what of it is left out, in words.

    A split's table is ``train/STEM.jsonl``, ``.csv`` or ``.tsv`` with its images below ``train/``,
    or ``train.jsonl`` (``.csv``, ``.tsv``) beside the folders of images.

    Args:
        root: Holds the splits.
        stems: Names that a table may have, without its ending.
        skip: Leave out rows whose image is missing.

    Raises:
        PrunerError: There is no table, it has no columns of images and texts, or a file is missing.
    """
    tables, notes = {}, list[str]()
    for split, path in find_tables(root, stems).items():
        rows = read_columns(path, (IMAGE_COLUMNS, TEXT_COLUMNS))
        files = [path.parent / name for name, _ in rows]
        keep = list_present(files, path, skip, notes)
        if not keep:
            raise PrunerError(f"{path}: no rows of images and texts")
        tables[split] = ImageTable(
            path, tuple(files[k] for k in keep), tuple(rows[k][1] for k in keep)
        )
    return tables, notes


def list_present(files: Sequence[Path], table: Path, skip: bool, notes: list[str]) -> list[int]:
    """Return the rows of a table whose images are there, and note how many are not.

    Raises:
        PrunerError: One is missing and is not to be skipped, or all are.
    """
    missing = [k for k, file in enumerate(files) if not file.is_file()]
    if missing:
        text = f"{len(missing)} of {len(files)} images of {table} are missing"
        if not skip or len(missing) == len(files):
            raise PrunerError(f"{text} (first {files[missing[0]]})")
        notes.append(f"{text} and are left out (first {files[missing[0]]})")
    return sorted({*range(len(files))} - {*missing})


def find_tables(root: Path, stems: Sequence[str]) -> dict[str, Path]:
    """Return the files of the tables of train, and of test if there is one."""
    expected = f"expected train/{stems[0]}.jsonl, .csv or .tsv, and val or test likewise"
    if not root.is_dir():
        raise PrunerError(f"{root}: no such data folder")
    flat = {
        split: path
        for split, names in (("train", ("train",)), ("test", ("val", "valid", "test")))
        if (path := _find_table(root, names)) is not None
    }
    if "train" in flat:
        return flat
    found = {}
    for split, folder in find_splits(root, expected).items():
        path = _find_table(folder, stems)
        if path is None:
            inside = ", ".join(sorted(p.name for p in folder.iterdir())[:5]) or "nothing"
            raise PrunerError(f"{folder}: no table; {expected}, found {inside}")
        found[split] = path
    return found


def read_columns(path: Path, columns: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """Read the columns that have one of the given names each, row by row.

    A CSV or TSV file whose first line has none of the names has no header: its columns are those
    asked for, in their order.

    Raises:
        PrunerError: The file is no such table, or a column is missing or empty in some row.
    """
    rows = read_rows(path, [names[0] for names in columns], {*sum(map(tuple, columns), ())})
    if not rows:
        return []
    chosen = []
    for names in columns:
        name = next((one for one in names if one in rows[0]), None)
        if name is None:
            raise PrunerError(
                f"{path}: no column {' or '.join(names)}; found {', '.join(map(str, rows[0]))}"
            )
        chosen.append(name)
    found = []
    for number, row in enumerate(rows, 1):
        values = [row.get(name) for name in chosen]
        if any(value is None for value in values):
            raise PrunerError(f"{path}: row {number} has no {chosen[values.index(None)]}")
        found.append(tuple(map(str, values)))
    return found


def read_rows(path: Path, plain: Sequence[str], known: set[str]) -> list[Mapping[str, Any]]:
    """Read rows by column; plain are the columns of a file whose first line has no known name."""
    if path.suffix.lower() == ".jsonl":
        return read_objects(path)
    cells = read_cells(path)
    first = [cell.strip().lower() for cell in cells[0]] if cells else []
    header = first if known & {*first} else list(plain)
    for number, line in enumerate(cells, 1):
        if len(line) < len(header):
            raise PrunerError(
                f"{path}: line {number} has {len(line)} cells, expected {len(header)} "
                f"({', '.join(header)})"
            )
    body = cells[1:] if header is first else cells
    return [dict(zip(header, line, strict=False)) for line in body]


def read_objects(path: Path) -> list[Mapping[str, Any]]:
    """Read the objects of a file of JSON lines; PrunerError where a line is none."""
    with _open_table(path) as stream:
        return [_read_object(line, k, path) for k, line in enumerate(stream, 1) if line.strip()]


def read_cells(path: Path) -> list[list[str]]:
    """Read the lines of a CSV or TSV file as lists of cells, empty ones left out."""
    tabs = path.suffix.lower() == ".tsv"
    with _open_table(path) as stream:
        lines = csv.reader(
            stream, delimiter="\t" if tabs else ",",
            quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
        )  # fmt: skip
        return [line for line in lines if line]


@contextmanager
def _open_table(path: Path) -> Iterator[TextIO]:
    """Open a table; what reading it raises within becomes PrunerError."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            yield stream
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PrunerError(f"{path}: not a readable table in UTF-8 ({error})") from error


def _read_object(line: str, number: int, path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise PrunerError(f"{path}: line {number} is no JSON ({error})") from error
    if not isinstance(found, dict):
        raise PrunerError(f"{path}: line {number}: expected an object, got {line.strip()[:40]!r}")
    return found


def _find_table(folder: Path, stems: Sequence[str]) -> Path | None:
    names = [stem + ending for stem in stems for ending in ENDINGS]
    return next((folder / name for name in names if (folder / name).is_file()), None)
