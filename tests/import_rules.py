"""The one way of the imports: packages, rooms, doors and circles, read from the files alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGES = {
    "solver": {"torch", "onnx", "onnxruntime", "latency_tables", "pruner"},
    "latency_tables": {"solver", "pruner"},
    "pruner": set[str](),
}
"""What a package may not import."""

ROOMS = {
    "latency_tables": (
        "errors", "former_names", "files", "spec", "source", "device", "engines", "devices",
        "timing", "regression", "measurement",
    ),
    "pruner": (
        "errors", "moved", "utils", "demo", "graph", "axes", "structure", "gates", "data", "tasks",
        "surgery", "reconstruction", "problem", "tuning", "importance", "search",
        "strategies", "models", "formats", "run",
    ),
}  # fmt: skip
"""The rooms of a package, bottom to top: each imports only those before it."""


@dataclass(frozen=True)
class Import:
    """One name that one module imports from another of its package, wherever it stands in it."""

    file: Path
    line: int
    module: str
    source: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.module} imports {self.source}"


def modules(package: Path) -> dict[str, Path]:
    """Dotted name -> file of every module of a package; a folder is its ``__init__``."""
    root = package.parent
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(package.rglob("*.py"))
    }


def top_level(path: Path) -> set[str]:
    """Top-level packages that a file imports by absolute names."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.add(node.module.split(".")[0])
    return names


def exported(path: Path) -> set[str]:
    """The names in a module's ``__all__``: a function there may share its name with its module."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def relative_imports(package: Path) -> Iterator[Import]:
    """Every relative import of a package: lazy ones and those for type checkers too."""
    known = modules(package)
    for module, path in known.items():
        here = module.split(".")
        if path.stem != "__init__":
            here = here[:-1]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not node.level:
                continue
            above = here[: len(here) - (node.level - 1)]
            source = ".".join([*above, *([node.module] if node.module else [])])
            door = exported(known[source]) if source in known else set()
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                submodule = inner in known and alias.name not in door
                yield Import(path, node.lineno, module, inner if submodule else source)


def room_of(module: str) -> str:
    """The room that a module stands in; "" for the package itself and its command."""
    parts = module.split(".")
    return "" if len(parts) == 1 or parts[1] == "__main__" else parts[1]


def wrong_rooms(package: Path) -> list[str]:
    """Modules in no room, imports of a room above, and imports past a room's door."""
    rooms = ROOMS[package.name]
    wrong = [
        f"{path}: in none of the rooms {', '.join(rooms)}"
        for module, path in modules(package).items()
        if room_of(module) not in ("", *rooms)
    ]
    if wrong:
        return wrong
    for found in relative_imports(package):
        own, other = room_of(found.module), room_of(found.source)
        if own == other:
            continue
        if own and (not other or rooms.index(other) >= rooms.index(own)):
            wrong.append(f"{found}: a room above its own")
        elif other and found.source.count(".") > 1:
            wrong.append(f"{found}: past the door of {other}, which is its __init__")
    return wrong


def circles(package: Path) -> list[tuple[str, ...]]:
    """Groups of modules that import each other, directly or through others.

    A module imports its room's door by importing anything of another room, never of its own.
    """
    arrows: dict[str, set[str]] = {module: set() for module in modules(package)}
    for found in relative_imports(package):
        if found.source != found.module:
            arrows[found.module].add(found.source)
    reach = {module: _reachable(module, arrows) for module in arrows}
    groups = {
        tuple(sorted(other for other in reach[module] if module in reach[other]))
        for module in arrows
        if module in reach[module]
    }
    return sorted(groups)


def _reachable(start: str, arrows: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    todo = list(arrows[start])
    while todo:
        module = todo.pop()
        if module not in found:
            found.add(module)
            todo.extend(arrows.get(module, ()))
    return found
