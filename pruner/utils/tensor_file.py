"""Named tensors with a JSON header in one safetensors file: sealed, written whole or not at all."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import PrunerError
from .atomic_files import replace_file
from .digests import digest_tensors
from .documents import parse_json

# One entry: safetensors writes several in an order that differs from run to run.
_ENTRY = "msprune"


def write_tensors(
    path: str | os.PathLike[str], kind: str, tensors: Mapping[str, torch.Tensor], header: Any
) -> None:
    """Write tensors, on any device, and a JSON-encodable header to path, atomically.

    The file's folder is made; `read_tensors` asks for the kind (``"importance"``) again.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # A tensor that shares its memory with another cannot be stored as it is.
    data = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}
    text = json.dumps({"kind": kind, "header": header}, sort_keys=True)
    with replace_file(target) as temporary:
        entry = json.dumps({"content": text, "sha256": _seal(data, text)}, sort_keys=True)
        try:
            save_file(data, temporary, metadata={_ENTRY: entry})
        except SafetensorError as error:  # its own word for what the system says
            raise OSError(f"{target}: cannot be written: {error}") from error


def read_tensors(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, torch.Tensor], Any]:
    """Return the tensors and the header that `write_tensors` wrote under the same kind.

    Raises:
        PrunerError: The file is missing, truncated, edited or of another kind.
    """
    source = Path(path)
    if not source.is_file():
        raise PrunerError(f"{source}: no such {kind} file")
    try:
        with safe_open(source, framework="pt") as stream:
            metadata = stream.metadata() or {}
            data = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except Exception as error:  # and what torch says of types that it has not
        raise PrunerError(
            f"{source}: not a readable {kind} file (truncated or damaged: {error}); "
            "remove it and make it again"
        ) from error
    try:
        entry = parse_json(metadata[_ENTRY])
        text = entry["content"]
        whole = entry["sha256"] == _seal(data, text)
    except Exception:  # not what write_tensors writes
        text, whole = "", False
    if not whole:
        raise PrunerError(
            f"{source}: the {kind} file was edited or not written by this program; "
            "remove it and make it again"
        )
    try:
        content = parse_json(text)
        found, header = content["kind"], content["header"]
    except (ValueError, TypeError, KeyError):
        raise PrunerError(f"{source}: not a {kind} file that this program wrote") from None
    if found != kind:
        raise PrunerError(f"{source}: holds {found}, expected {kind}")
    return data, header


def _seal(tensors: Mapping[str, torch.Tensor], text: str) -> str:
    """Return a digest of all in the file: names, types, shapes, bytes and the header."""
    return digest_tensors(dict(sorted(tensors.items())), "{name}\0{dtype}\0{shape}\0", text)
