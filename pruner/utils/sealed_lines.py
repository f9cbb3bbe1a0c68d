"""Lines that a step appends to a file while it works; one that was cut off or edited is none."""

import json
from pathlib import Path
from typing import Any

from .digests import digest_json
from .documents import parse_json

_SEAL = 16  # letters of the digest that a line begins with


def append_line(path: Path, content: Any) -> None:
    """Append plain data as a line, sealed with the file's name: a line of another file is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as stream:
        stream.write(f"\n{_seal(path, content)} {json.dumps(content)}")


def read_lines(path: Path) -> list[Any]:
    """Return what `append_line` wrote into a file, of the lines that are as it wrote them."""
    found: list[Any] = []
    if not path.is_file():
        return found
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        seal, _, text = line.partition(" ")
        try:
            content = parse_json(text)
        except ValueError:
            continue
        if seal == _seal(path, content):
            found.append(content)
    return found


def _seal(path: Path, content: Any) -> str:
    return digest_json([path.name, content])[:_SEAL]
