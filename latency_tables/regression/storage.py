"""A table's two files: samples in Parquet, and a JSON header that vouches for both."""

import hashlib
import json
import os
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
from pyarrow import parquet

from ..errors import DamagedTableError
from ..files import hash_file, write_bytes

SCHEMA = 2
HINT = "Delete it and measure again."
MOST_ROWS, MOST_BYTES = 10_000_000, 1 << 30  # of samples; thousands of probes have fewer


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
    try:
        pd.DataFrame(rows).to_parquet(next_parquet, index=False)
        with next_parquet.open("rb") as file:
            os.fsync(file.fileno())
        whole = {"schema": SCHEMA, **header, "parquet_sha256": hash_file(next_parquet)}
        whole["header_sha256"] = _hash_header(whole)
        write_bytes(next_header, json.dumps(whole, indent=1).encode())
    except BaseException:  # a disk that is full has no room for half a table
        next_parquet.unlink(missing_ok=True)
        raise
    finish_save(path)


def finish_save(path: Path) -> None:
    """Move a table that was written whole into place, also one that a killed process had written.

    Two files cannot be moved at once; until the second one is, its new header tells what is whole.
    """
    target, header_target = parquet_path(path), header_path(path)
    next_parquet, next_header = _next(target), _next(header_target)
    if not next_header.is_file():
        return
    try:
        digest = json.loads(next_header.read_bytes())["parquet_sha256"]
    except (ValueError, TypeError, KeyError, RecursionError):  # damaged: what is in place counts
        digest = None
    if next_parquet.is_file() and hash_file(next_parquet) == digest:
        with suppress(FileNotFoundError):  # a reader may be faster: it finishes a save too
            os.replace(next_parquet, target)
    if target.is_file() and hash_file(target) == digest:
        with suppress(FileNotFoundError):
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
        header = json.loads(header_file.read_bytes())
        if not isinstance(header, dict):
            raise ValueError("not an object")
    except (ValueError, RecursionError) as error:
        raise DamagedTableError(f"{header_file} is damaged ({error}). {HINT}") from error
    if header.get("schema") != SCHEMA:
        raise DamagedTableError(
            f"{header_file} has schema {header.get('schema')!r}, and this version reads "
            f"{SCHEMA}. {HINT}"
        )
    if header.pop("header_sha256", None) != _hash_header(header):
        raise DamagedTableError(f"{header_file} was edited or cut. {HINT}")
    if hash_file(target) != header.get("parquet_sha256"):
        raise DamagedTableError(f"{target} was edited or cut, or is not that header's. {HINT}")
    try:
        _check_size(target)
        return header, pd.read_parquet(target).to_dict("records")
    except Exception as error:  # of a file that others wrote, whatever its reader raises
        raise DamagedTableError(f"{target} holds no samples ({error}). {HINT}") from error


def _check_size(target: Path) -> None:
    """Raise ValueError where reading a file would fill the memory: a few bytes can say so much."""
    found = parquet.ParquetFile(target).metadata
    parts = (found.row_group(i).total_byte_size for i in range(found.num_row_groups))
    if found.num_rows > MOST_ROWS or sum(parts) > MOST_BYTES:
        raise ValueError(f"{found.num_rows} rows of more than a table can have")


def _next(path: Path) -> Path:
    """Return where the file is written before it is moved into place."""
    return path.with_name(f".{path.name}.next")


def _hash_header(header: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()
