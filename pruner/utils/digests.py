"""Digests of plain data, tensors and files, by which a step knows what it was made from."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def digest_json(content: Any) -> str:
    """Return the SHA-256 of plain data, the same for equal data."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def digest_tensors(tensors: Mapping[str, Tensor], form: str, prefix: str = "") -> str:
    """Return the SHA-256 of tensors with their names, types and shapes, in the mapping's order.

    The prefix is digested first; ahead of each one's bytes ``form``, of ``{name}``, ``{dtype}`` and
    ``{shape}``.
    """
    digest = hashlib.sha256(prefix.encode())
    for name, tensor in tensors.items():
        head = form.format(name=name, dtype=tensor.dtype, shape=tuple(tensor.shape))
        digest.update(head.encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return digest.hexdigest()
