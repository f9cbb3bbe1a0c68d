"""Where the package keeps its files, and writing them whole or not at all."""

import hashlib
import os
import uuid
from pathlib import Path


def cache_folder() -> Path:
    """Return ``$MSPRUNE_CACHE``, or ``msprune`` in the user's cache folder (XDG's)."""
    own = os.environ.get("MSPRUNE_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "msprune"


def write_bytes(path: Path, data: bytes) -> None:
    """Write under a temporary name, in a folder that is made, and move into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def hash_file(path: Path) -> str:
    """Compute a file's SHA-256, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
