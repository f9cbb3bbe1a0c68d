"""Reads files that training scripts wrote with ``torch.save``; nothing in them is executed.

torch's own unpickler for tensors builds what stands in `_HARMLESS` besides: options, paths, numbers
of numpy and dictionaries, in stand-ins where the class does more than to hold values. A file that
names any other class is refused with that class's name.
"""

import argparse
import collections
import datetime
import pathlib
import re
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import PrunerError, first_line


def _make_dictionary(*_: Any) -> dict[Any, Any]:
    """Stand in for defaultdict, whose first argument is something to call."""
    return collections.OrderedDict()


class _Array(np.ndarray):
    """Stands in for numpy's array: as pickles build one, it is empty until its bytes come."""

    def __new__(cls, *_: Any) -> "_Array":
        """Return an empty array, whatever shape the file asks memory for."""
        return np.ndarray.__new__(cls, (0,), "b")


def _make_array(*_: Any) -> _Array:
    """Stand in for what numpy pickles arrays with: the shape comes again with the bytes."""
    return _Array()


def _make_bytes(content: Any = b"", *encoding: Any) -> bytes:
    """Stand in for bytes, which of a number makes as many zeros."""
    if isinstance(content, int):
        raise ValueError(f"the file asks for {content} bytes of nothing")
    return bytes(content, *encoding)


_ARRAYS: dict[str, Any] = {
    f"numpy.{core}.multiarray.{name}": make
    for core in ("core", "_core")  # of numpy 1 and of numpy 2
    # What numpy pickles numbers and arrays with.
    for name, make in (("scalar", np.float64(0).__reduce__()[0]), ("_reconstruct", _make_array))
}
_PATHS = {
    f"{module}.{name}": kind
    for module in ("pathlib", "pathlib._local")
    for name, kind in {
        "PosixPath": pathlib.PurePosixPath,
        "PurePosixPath": pathlib.PurePosixPath,
        "WindowsPath": pathlib.PureWindowsPath,  # which this machine may not have
        "PureWindowsPath": pathlib.PureWindowsPath,
    }.items()
}
_HARMLESS: dict[str, Any] = {
    "argparse.Namespace": argparse.Namespace,
    "types.SimpleNamespace": types.SimpleNamespace,
    "collections.defaultdict": _make_dictionary,
    **{f"builtins.{kind.__name__}": kind
       for kind in (list, dict, tuple, set, frozenset, int, float, complex, bool, str)},
    "builtins.bytes": _make_bytes,
    **{f"datetime.{kind.__name__}": kind
       for kind in (datetime.datetime, datetime.date, datetime.time, datetime.timedelta)},
    "torch.torch_version.TorchVersion": str,
    "numpy.dtype": np.dtype,
    "numpy.ndarray": _Array,
    **{f"numpy.dtypes.{kind.__name__}": kind
       for kind in {type(np.dtype(letter)) for letter in "?bBhHiIlLqQefdgFDGSU"}},
    **_ARRAYS,
    **_PATHS,
}  # fmt: skip


def read_checkpoint(path: Path) -> Any:
    """Return what ``torch.save`` wrote.

    Raises:
        PrunerError: It cannot be read, or holds objects of other classes, which are named.
    """
    allowed: list[Any] = [(kind, name) for name, kind in _HARMLESS.items()]
    try:
        _check_archive(path)
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        classes = _find_refused(path, error)
        if not classes:
            raise PrunerError(
                f"cannot read weights {str(path)!r} (a .safetensors file, or a torch.save file "
                f"with nothing but tensors): {first_line(error)}"
            ) from error
        raise PrunerError(
            f"cannot read weights {str(path)!r}: a file with nothing but tensors and plain values "
            f"is expected; it names {', '.join(classes)}, and to make these would run code. Where "
            "you trust it, save its tensors alone: torch.save(model.state_dict(), FILE)"
        ) from error


def _check_archive(path: Path) -> None:
    """Raise ValueError where a file holds more bytes than it has: ``torch.save`` packs nothing."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        size = sum(part.file_size for part in archive.infolist())
    if size > path.stat().st_size:
        raise ValueError(f"it would grow to {size} bytes: torch.save packs none")


def _find_refused(path: Path, error: Exception) -> list[str]:
    """Return the classes that the file names and that are not built; only named, not imported."""
    try:
        named = set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # a file of torch before 1.6, or none of torch's
        named = set()
    named |= set(re.findall(r"GLOBAL ([\w.]+)", str(error)))
    known = {name.removeprefix("builtins.") for name in _HARMLESS}
    refused = {name.removeprefix("builtins.") for name in named} - known
    found = sorted(refused, key=lambda name: (name.startswith("torch."), name))
    return found if len(found) <= 3 else [*found[:3], f"and {len(found) - 3} more"]
