"""Finds the folders of the splits, and the files below them."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..errors import PrunerError

_TRAIN = ("train", "training")
_HELD_OUT = ("val", "test", "valid", "validation", "testing")


def find_splits(root: Path, expected: str) -> dict[str, Path]:
    """Return the folders of the images to train on and to test on, the latter if there is one."""
    if not root.is_dir():
        raise PrunerError(f"{root}: no such data folder")
    found = list_splits(root)
    if "train" not in found:
        inside = ", ".join(sorted(p.name for p in root.iterdir())[:5]) or "nothing"
        raise PrunerError(f"{root}: no train folder; {expected}, found {inside}")
    return found


def list_splits(root: Path) -> dict[str, Path]:
    """Return the folders of the splits that there are in a folder: train, test, both or none."""
    folders = list_folders(root)
    found = {"train": find_folder(folders, _TRAIN), "test": find_folder(folders, _HELD_OUT)}
    return {name: path for name, path in found.items() if path is not None}


def list_folders(root: Path) -> dict[str, Path]:
    """Return the folders in a folder by their names in lower case."""
    return {p.name.casefold(): p for p in sorted(root.iterdir(), reverse=True) if p.is_dir()}


def find_folder(folders: Mapping[str, Path], names: Sequence[str]) -> Path | None:
    """Return the folder with the first of the names that there is."""
    return next((folders[name] for name in names if name in folders), None)


def exists(path: Path) -> bool:
    """Whether a path is no link to nothing."""
    return not path.is_symlink() or path.exists()


def walk_files(folder: str, seen: set[str]) -> Iterator[str]:
    """Yield the files below a folder; of folders that link to each other, each once."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    with os.scandir(folder) as entries:  # which asks the disk once a folder, not once a file
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from walk_files(entry.path, seen)
            else:
                yield entry.path
