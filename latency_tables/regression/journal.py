"""The journal of a measurement under way, which an interrupted one continues from."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from ..device import Device
from ..errors import DamagedTableError
from ..files import write_bytes
from ..spec import LayerSpec
from .reading import CellReading, Reading
from .storage import HINT, SCHEMA, parquet_path


def journal_path(path: Path) -> Path:
    """Return the journal of a table, from the table's file or the folder it lies in."""
    return parquet_path(path).with_suffix(".journal")


class Journal:
    """Readings of a measurement under way: one line each, on disk before the next is taken."""

    def __init__(self, path: Path, device: Device) -> None:
        self.file = journal_path(path)
        self.readings: list[Reading] = []
        if self.file.is_file():
            self._load(device)
        else:
            header = json.dumps({"schema": SCHEMA, "device": device.to_json()})
            write_bytes(self.file, f"{header}\n".encode())

    def append(self, reading: Reading) -> None:
        """Add a reading, and wait until it is on disk."""
        row = reading.to_json()
        row["cells"] = [
            [c.cell, c.spec.to_json(), c.sizes, c.kernel_ms, c.spread_ms, c.kernels]
            for c in reading.cells
        ]
        row["seal"] = _seal(row)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.readings.append(reading)

    def remove(self) -> None:
        """Delete the file: its readings are in a table now."""
        self.file.unlink(missing_ok=True)

    def _load(self, device: Device) -> None:
        text = self.file.read_text(encoding="utf-8", errors="replace")
        # A process that was killed may have left half a line; what it held is measured again.
        whole = text[: text.rfind("\n") + 1]
        try:
            header, *rows = [json.loads(line) for line in whole.splitlines()]
            if header["schema"] != SCHEMA:
                raise ValueError(f"schema {header['schema']}, not {SCHEMA}")
            known = Device.from_json(header["device"])
            self.readings = [_decode_reading(row) for row in rows]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DamagedTableError(
                f"{self.file}, of an unfinished measurement, is damaged ({error!r}). {HINT}"
            ) from error
        device.check_same(known, str(self.file))
        if whole != text:
            write_bytes(self.file, whole.encode())


def _seal(row: dict[str, Any]) -> str:
    """Return a digest of a line's content: a digit that changes on the disk would be a sample."""
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()[:16]


def _decode_reading(row: dict[str, Any]) -> Reading:
    if row.pop("seal", None) not in (None, _seal(row)):  # journals of before have none
        raise ValueError(f"the reading taken {row.get('measured_at')} was edited")
    cells = [
        CellReading(name, LayerSpec.from_json(spec), tuple(sizes), *rest)
        for name, spec, sizes, *rest in row.pop("cells")
    ]
    return Reading.from_json(row, cells)
