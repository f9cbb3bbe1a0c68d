"""Digests of plain data and of files, by which a step knows what it was made from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def digest_json(content: Any) -> str:
    """SHA-256 of plain data, the same for equal data."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as stream:
        total = hashlib.sha256()
        while block := stream.read(1 << 20):
            total.update(block)
    return total.hexdigest()
