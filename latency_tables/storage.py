"""Tables on disk: Parquet with a JSON header, and the journal of a measurement under way."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .context import Context
from .device import Device
from .errors import DamagedTableError
from .reading import CellReading, Reading
from .spec import LayerSpec

if TYPE_CHECKING:
    from .table import LatencyTable

SCHEMA = 2
_HINT = "Delete it and measure again."


def parquet_path(path: Path) -> Path:
    """The table's file, from that file or the folder it lies in."""
    return path if path.suffix == ".parquet" else path / "latency.parquet"


def header_path(path: Path) -> Path:
    return parquet_path(path).with_suffix(".json")


def journal_path(path: Path) -> Path:
    return parquet_path(path).with_suffix(".journal")


def save_table(table: LatencyTable, path: Path) -> None:
    """Both files are whole under other names before either is moved into place."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    target, header_target = parquet_path(path), header_path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    samples = iter(table.samples)
    rows: list[dict[str, Any]] = []
    for index, reading in enumerate(table.readings):
        for cell in reading.cells:
            sample = next(samples)
            rows.append(
                {
                    "spec": cell.spec.to_json(),
                    "sizes": list(cell.sizes),
                    "latency_ms": sample.latency_ms,
                    "spread_ms": sample.spread_ms,
                    "runs": reading.runs,
                    "probe": index,
                    "cell": cell.cell,
                    "kernel_ms": cell.kernel_ms,
                    "kernel_spread_ms": cell.spread_ms,
                    "kernels": cell.kernels,
                }
            )
    schema = pa.schema(
        [
            ("spec", pa.string()), ("sizes", pa.list_(pa.int64())), ("latency_ms", pa.float64()),
            ("spread_ms", pa.float64()), ("runs", pa.int64()), ("probe", pa.int64()),
            ("cell", pa.string()), ("kernel_ms", pa.float64()),
            ("kernel_spread_ms", pa.float64()), ("kernels", pa.int64()),
        ]
    )  # fmt: skip
    finish_save(path)
    next_parquet, next_header = _next(target), _next(header_target)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), next_parquet)
    with next_parquet.open("rb") as file:
        os.fsync(file.fileno())
    header = {
        "schema": SCHEMA,
        "device": table.device.to_json(),
        "error": asdict(table.error) if table.error else None,
        "easing": table.easing,
        "contexts": {name: asdict(context) for name, context in table.contexts.items()},
        "overhead_ms": table.overhead_ms,
        "notes": list(table.notes),
        "provenance": dict(table.provenance),
        "probes": [_probe_row(reading) for reading in table.readings],
        "parquet_sha256": _sha256(next_parquet),
    }
    header["header_sha256"] = _digest(header)
    write_text(next_header, json.dumps(header, indent=1))
    finish_save(path)


def finish_save(path: Path) -> None:
    """Moves a table that was written whole into place, also one that a killed process had written.

    Two files cannot be moved at once; until the second one is, its new header tells what is whole.
    """
    target, header_target = parquet_path(path), header_path(path)
    next_parquet, next_header = _next(target), _next(header_target)
    if not next_header.is_file():
        return
    wanted = json.loads(next_header.read_text(encoding="utf-8"))["parquet_sha256"]
    if next_parquet.is_file() and _sha256(next_parquet) == wanted:
        os.replace(next_parquet, target)
    if target.is_file() and _sha256(target) == wanted:
        os.replace(next_header, header_target)
    next_parquet.unlink(missing_ok=True)
    next_header.unlink(missing_ok=True)


def load_table(path: Path) -> LatencyTable:
    import pyarrow.parquet as pq

    from .table import LatencyTable, TableError

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
        raise DamagedTableError(f"{header_file} is damaged ({error}). {_HINT}") from error
    if header.get("schema") != SCHEMA:
        raise DamagedTableError(
            f"{header_file} has schema {header.get('schema')!r}, and this version reads "
            f"{SCHEMA}. {_HINT}"
        )
    if header.pop("header_sha256", None) != _digest(header):
        raise DamagedTableError(f"{header_file} was edited or cut. {_HINT}")
    if _sha256(target) != header["parquet_sha256"]:
        raise DamagedTableError(f"{target} was edited or cut, or is not that header's. {_HINT}")
    cells: list[list[CellReading]] = [[] for _ in header["probes"]]
    specs: dict[str, LayerSpec] = {}
    for row in pq.read_table(target).to_pylist():
        spec = specs.setdefault(row["spec"], LayerSpec.from_json(row["spec"]))
        cells[row["probe"]].append(
            CellReading(
                row["cell"], spec, tuple(row["sizes"]), row["kernel_ms"],
                row["kernel_spread_ms"], row["kernels"],
            )
        )  # fmt: skip
    return LatencyTable(
        device=Device.from_json(header["device"]),
        readings=tuple(
            _reading(row, tuple(own)) for row, own in zip(header["probes"], cells, strict=True)
        ),
        error=TableError(**header["error"]) if header["error"] else None,
        easing=float(header["easing"]),
        contexts={name: _context(own) for name, own in header.get("contexts", {}).items()},
        notes=tuple(header["notes"]),
        provenance=header["provenance"],
    )


class Journal:
    """Readings of a measurement under way: one line each, on disk before the next is taken."""

    def __init__(self, path: Path, device: Device) -> None:
        self.file = journal_path(path)
        self.readings: list[Reading] = []
        self._specs: dict[str, LayerSpec] = {}
        if self.file.is_file():
            self._read(device)
        else:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.file, json.dumps({"schema": SCHEMA, "device": device.to_json()}) + "\n")

    def append(self, reading: Reading) -> None:
        row = _probe_row(reading)
        row["cells"] = [
            [c.cell, c.spec.to_json(), c.sizes, c.kernel_ms, c.spread_ms, c.kernels]
            for c in reading.cells
        ]
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.readings.append(reading)

    def remove(self) -> None:
        self.file.unlink(missing_ok=True)

    def _read(self, device: Device) -> None:
        text = self.file.read_text(encoding="utf-8")
        # A process that was killed may have left half a line; what it held is measured again.
        whole = text[: text.rfind("\n") + 1]
        try:
            header, *rows = [json.loads(line) for line in whole.splitlines()]
            if header["schema"] != SCHEMA:
                raise ValueError(f"schema {header['schema']}, not {SCHEMA}")
            known = Device.from_json(header["device"])
            self.readings = [self._parse(row) for row in rows]
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedTableError(
                f"{self.file}, of an unfinished measurement, is damaged ({error!r}). {_HINT}"
            ) from error
        device.check_same(known, str(self.file))
        if whole != text:
            write_text(self.file, whole)

    def _parse(self, row: dict[str, Any]) -> Reading:
        cells = tuple(
            CellReading(
                name, self._specs.setdefault(spec, LayerSpec.from_json(spec)), tuple(sizes), *rest
            )
            for name, spec, sizes, *rest in row.pop("cells")
        )
        return _reading(row, cells)


def write_text(path: Path, text: str) -> None:
    """As ``write_bytes``, in UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Writes under a temporary name and moves into place."""
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _next(path: Path) -> Path:
    return path.with_name(f".{path.name}.next")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")


def _probe_row(reading: Reading) -> dict[str, Any]:
    row = {name: getattr(reading, name) for name in Reading.__dataclass_fields__}
    del row["cells"]
    return row | {"sizes": dict(reading.sizes), "dropped": list(reading.dropped)}


def _reading(row: Mapping[str, Any], cells: Sequence[CellReading]) -> Reading:
    return Reading(**{**row, "dropped": tuple(row["dropped"]), "cells": tuple(cells)})


def _context(row: Mapping[str, Any]) -> Context:
    return Context(**{**row, "checks": tuple((s, m) for s, m in row["checks"])})


def _digest(header: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()
