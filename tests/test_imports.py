"""The import arrows of docs/architecture.md, and a bare environment."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "solver": {"torch", "onnx", "onnxruntime", "latency_tables", "pruner"},
    "latency_tables": {"solver", "pruner"},
    "pruner": set(),
}
EXTRAS = ("torchvision", "timm", "openvino", "tensorrt", "pycuda", "transformers", "matplotlib")


def imported(path: Path) -> set[str]:
    """Top-level packages that a file imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_packages_import_one_way(package: str) -> None:
    for path in sorted((ROOT / package).rglob("*.py")):
        found = imported(path)
        assert not found & FORBIDDEN[package], path
        assert package not in found, f"{path}: relative imports inside a package"
        assert not found & {"tests", "benchmarks", "examples"}, path


def test_every_module_imports_without_extras() -> None:
    """With the extras blocked, each module loads: heavy imports stay inside functions."""
    modules = sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for package in FORBIDDEN
        for path in (ROOT / package).rglob("*.py")
        if path.stem != "__main__"
    )
    script = f"""
import importlib, importlib.abc, sys

class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(name + " is blocked", name=name)

sys.meta_path.insert(0, Block())
for name in {modules!r}:
    importlib.import_module(name)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
