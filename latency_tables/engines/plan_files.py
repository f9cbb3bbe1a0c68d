"""Built engines and timing caches on disk, so that the same network is not built twice."""

import os
from pathlib import Path

from ..files import cache_folder, write_bytes

_TIMINGS = "timing.cache"
_MOST_BYTES = 4 << 30


class PlanFiles:
    """A folder of engine files by key; the least recently used go once it holds 4 GiB."""

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = Path(folder) if folder is not None else cache_folder() / "tensorrt"

    def path(self, key: str) -> Path:
        """Return the file of a key, whether or not it is there."""
        return self.folder / f"{key}.engine"

    def read(self, key: str) -> bytes | None:
        """Read an engine and mark it as used; ``None`` where there is none."""
        try:
            data = self.path(key).read_bytes()
            os.utime(self.path(key))
        except OSError:
            return None
        return data

    def write(self, key: str, data: bytes) -> None:
        """Keep an engine, and delete old ones beyond the limit."""
        write_bytes(self.path(key), data)
        files = sorted(self.folder.glob("*.engine"), key=lambda f: f.stat().st_mtime, reverse=True)
        total = 0
        for file in files:
            total += file.stat().st_size
            if total > _MOST_BYTES and file != self.path(key):
                file.unlink(missing_ok=True)

    def read_timings(self) -> bytes | None:
        """Read the timing cache, where there is one."""
        file = self.folder / _TIMINGS
        return file.read_bytes() if file.is_file() else None

    def write_timings(self, data: bytes) -> None:
        """Keep the timing cache."""
        write_bytes(self.folder / _TIMINGS, data)
