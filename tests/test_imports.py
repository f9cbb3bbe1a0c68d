"""The import arrows of docs/architecture.md, and a bare environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .import_rules import PACKAGES, ROOMS, circles, modules, top_level, wrong_rooms

ROOT = Path(__file__).parents[1]
EXTRAS = ("torchvision", "timm", "openvino", "tensorrt", "pycuda", "transformers", "matplotlib")


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_packages_import_one_way(package: str) -> None:
    for path in modules(ROOT / package).values():
        found = top_level(path)
        assert not found & PACKAGES[package], path
        assert package not in found, f"{path}: relative imports inside a package"
        assert not found & {"tests", "benchmarks", "examples"}, path


@pytest.mark.parametrize("package", sorted(ROOMS))
def test_rooms_import_one_way_and_through_their_doors(package: str) -> None:
    assert not wrong_rooms(ROOT / package)


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_no_circles(package: str) -> None:
    assert not circles(ROOT / package)


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("attic/old.py", "", "in none of the rooms"),
        ("loose.py", "", "in none of the rooms"),
        ("graph/new.py", "from ..run import Config\n", "a room above its own"),
        ("axes/new.py", "def f():\n    from ..structure import Plan\n", "a room above its own"),
        (
            "utils/new.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .. import trace\n",
            "a room above its own",
        ),
        ("surgery/new.py", "from ..graph.ops import f\n", "past the door of graph"),
    ],
    ids=["no room", "loose file", "room above", "lazy", "for type checkers", "past the door"],
)
def test_a_module_in_the_wrong_room_is_found(
    tmp_path: Path, file: str, text: str, expected: str
) -> None:
    package = tmp_path / "pruner"
    shutil.copytree(ROOT / "pruner", package, ignore=shutil.ignore_patterns("__pycache__"))
    new = package / file
    new.parent.mkdir(exist_ok=True)
    new.write_text(text)
    (wrong,) = wrong_rooms(package)
    assert expected in wrong
    assert str(new) in wrong


def test_circles_are_found_lazy_ones_too(tmp_path: Path) -> None:
    package = tmp_path / "pruner"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("from .b import x\n")
    (package / "b.py").write_text("def x():\n    from . import c\n")
    (package / "c.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .a import y\n"
    )
    (package / "d.py").write_text("from .a import y\n")
    assert circles(package) == [("pruner.a", "pruner.b", "pruner.c")]


# Classes that derive from an extra's own: nothing imports them but a function.
DERIVED = ("pruner.models.auto_classes",)


def test_every_module_imports_without_extras() -> None:
    """With the extras blocked, each module loads: heavy imports stay inside functions."""
    names = sorted(
        name
        for package in PACKAGES
        for name in modules(ROOT / package)
        if not name.endswith("__main__") and name not in DERIVED
    )
    script = f"""
import importlib, importlib.abc, sys

class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(name + " is blocked", name=name)

sys.meta_path.insert(0, Block())
for name in {names!r}:
    importlib.import_module(name)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
