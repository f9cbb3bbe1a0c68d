"""Files over there: bundles whose hashes are checked, results that appear whole and sealed."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib

FORMAT = 1


class RunnerError(Exception):
    """Something that the person at the device can put right."""


def seal_record(record):
    """Return the digest of a record: of its canonical JSON without the seal."""
    plain = {name: value for name, value in record.items() if name != "seal"}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read_file(path):
    """Read a file's bytes."""
    with open(path, "rb") as file:
        return file.read()


def write_file(path, data):
    """Write bytes under another name, and move them into place once they are on disk."""
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_manifest(folder):
    """Read a bundle's manifest, and check it and every file that it names."""
    path = os.path.join(folder, "manifest.json")
    try:
        manifest = json.loads(read_file(path).decode())
        sealed = manifest["seal"] == seal_record(manifest)
    except OSError:
        raise RunnerError(f"{path} is missing: copy the whole bundle here") from None
    except (ValueError, KeyError, TypeError):
        sealed = False
    if not sealed:
        raise RunnerError(f"{path} was edited or cut: copy the bundle here again")
    if manifest["format"] != FORMAT:
        raise RunnerError(f"{path} has format {manifest['format']}, and this runner reads {FORMAT}")
    for name, digest in sorted(manifest["files"].items()):
        check_file(os.path.join(folder, name), digest)
    return manifest


def check_file(path, digest):
    """Raise an error where a file is missing or another one than the manifest says."""
    try:
        found = hashlib.sha256(read_file(path)).hexdigest()
    except OSError:
        raise RunnerError(f"{path} is missing: copy the whole bundle here") from None
    if found != digest:
        raise RunnerError(
            f"{path} was edited or cut (SHA-256 {found[:12]}, not {digest[:12]}): "
            "copy the bundle here again"
        )


def pack_record(record):
    """Encode a record with its seal, compressed."""
    text = json.dumps(dict(record, seal=seal_record(record)), separators=(",", ":"))
    return gzip.compress(text.encode(), 6)


def read_record(path):
    """Read a sealed record; ``None`` where it was edited or cut."""
    try:
        record = json.loads(gzip.decompress(read_file(path)).decode())
        return record if record["seal"] == seal_record(record) else None
    except (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error):
        return None
