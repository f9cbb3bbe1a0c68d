"""A table's two files: samples in Parquet, and a JSON header that vouches for both."""

import hashlib
import json
import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import DamagedTableError
from ..files import hash_file, write_bytes

SCHEMA = 2
HINT = "Delete it and measure again."


def parquet_path(path: Path) -> Path:
    """Return the table's file, from that file or the folder it lies in."""
    return path if path.suffix == ".parquet" else path / "latency.parquet"


def header_path(path: Path) -> Path:
    """Return the table's header, from its file or the folder it lies in."""
    return parquet_path(path).with_suffix(".json")


def save_files(path: Path, header: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write both files whole under other names before either is moved into place.

    To the ``header`` the schema's number and the digests are added; ``rows`` are samples.
    """
    parquet_path(path).parent.mkdir(parents=True, exist_ok=True)
    finish_save(path)
    next_parquet, next_header = _next(parquet_path(path)), _next(header_path(path))
    pd.DataFrame(rows).to_parquet(next_parquet, index=False)
    with next_parquet.open("rb") as file:
        os.fsync(file.fileno())
    whole = {"schema": SCHEMA, **header, "parquet_sha256": hash_file(next_parquet)}
    whole["header_sha256"] = _hash_header(whole)
    write_bytes(next_header, json.dumps(whole, indent=1).encode())
    finish_save(path)


def finish_save(path: Path) -> None:
    """Move a table that was written whole into place, also one that a killed process had written.

    Two files cannot be moved at once; until the second one is, its new header tells what is whole.
    """
    target, header_target = parquet_path(path), header_path(path)
    next_parquet, next_header = _next(target), _next(header_target)
    if not next_header.is_file():
        return
    digest = json.loads(next_header.read_text(encoding="utf-8"))["parquet_sha256"]
    if next_parquet.is_file() and hash_file(next_parquet) == digest:
        os.replace(next_parquet, target)
    if target.is_file() and hash_file(target) == digest:
        os.replace(next_header, header_target)
    next_parquet.unlink(missing_ok=True)
    next_header.unlink(missing_ok=True)


def load_files(path: Path) -> tuple[dict[str, Any], list[dict[Hashable, Any]]]:
    """Read the header and the rows that ``save_files`` wrote.

    Raises:
        DamagedTableError: A file is missing, cut, edited, or of another version.
    """
    finish_save(path)
    target, header_file = parquet_path(path), header_path(path)
    for file in (target, header_file):
        if not file.is_file():
            raise DamagedTableError(
                f"{file} does not exist; measure it first: msprune measure MODEL --out RUN"
            )
    try:
        header = json.loads(header_file.read_text(encoding="utf-8"))
        if not isinstance(header, dict):
            raise ValueError("not an object")
    except ValueError as error:
        raise DamagedTableError(f"{header_file} is damaged ({error}). {HINT}") from error
    if header.get("schema") != SCHEMA:
        raise DamagedTableError(
            f"{header_file} has schema {header.get('schema')!r}, and this version reads "
            f"{SCHEMA}. {HINT}"
        )
    if header.pop("header_sha256", None) != _hash_header(header):
        raise DamagedTableError(f"{header_file} was edited or cut. {HINT}")
    if hash_file(target) != header["parquet_sha256"]:
        raise DamagedTableError(f"{target} was edited or cut, or is not that header's. {HINT}")
    return header, pd.read_parquet(target).to_dict("records")


def _next(path: Path) -> Path:
    """Return where the file is written before it is moved into place."""
    return path.with_name(f".{path.name}.next")


def _hash_header(header: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()
