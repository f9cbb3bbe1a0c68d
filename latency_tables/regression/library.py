"""This user's tables, one a device and setting, so that one table serves many networks."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from ..device import Device
from ..files import cache_folder
from ..spec import LayerSpec
from .reading import Reading
from .storage import header_path
from .table import LatencyTable, join_tables

BUSY = 0.3  # share of disturbed runs from which a reading is no one else's business


def library_folder() -> Path:
    """Return where ``msprune measure`` looks for what was measured before, and adds to it."""
    return cache_folder() / "tables"


class Library:
    """A folder of tables, each in a folder named after its device and setting."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def place(self, device: Device) -> Path:
        """Return the folder of a device's table, whether or not there is one."""
        digest = hashlib.sha256(json.dumps(device.identity).encode()).hexdigest()[:10]
        name = f"{device.processor}-{device.engine}-{device.precision}-batch{device.batch}"
        return self.folder / f"{re.sub(r'[^A-Za-z0-9]+', '-', name).strip('-').lower()}-{digest}"

    def places(self) -> Iterator[Path]:
        """Iterate over the folders of all tables, by name."""
        for folder in sorted(self.folder.glob("*")):
            if header_path(folder).is_file():
                yield folder

    def readings(self, device: Device, specs: Iterable[LayerSpec]) -> tuple[Reading, ...]:
        """Read a device's readings that hold any of these specifications.

        Raises:
            DamagedTableError: The table's file is cut or edited.
        """
        place = self.place(device)
        if not header_path(place).is_file():
            return ()
        asked = set(specs)
        with _lock(place):
            table = LatencyTable.load(place, device)
        return tuple(r for r in table.readings if any(c.spec in asked for c in r.cells))

    def add(self, table: LatencyTable) -> None:
        """Keep a table's readings for other networks, but for those of a busy machine."""
        quiet = tuple(r for r in table.readings if r.disturbed <= BUSY)
        place = self.place(table.device)
        place.mkdir(parents=True, exist_ok=True)
        with _lock(place):
            known = LatencyTable(table.device, (), provenance={"created": table.created})
            if header_path(place).is_file():
                known = LatencyTable.load(place, table.device)
            if not {r.key for r in quiet} <= {r.key for r in known.readings}:
                fresh = replace(table, readings=quiet, error=None, notes=(), provenance={})
                join_tables([known, fresh]).save(place)


def _lock(folder: Path) -> FileLock:
    """Make the lock of one writer at a time: two measurements may end together."""
    return FileLock(folder / ".lock")
