"""The shape of the house: small modules and functions, verbs for functions, one class a name."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from .import_rules import PACKAGES, modules

ROOT = Path(__file__).parents[1]
MOST_MODULE_LINES = 350
MOST_FUNCTION_LINES = 60

Function = ast.FunctionDef | ast.AsyncFunctionDef

IRREGULAR = {
    "apart", "begun", "beside", "between", "bound", "broken", "brought", "built", "chosen",
    "drawn", "driven", "fallen", "felt", "found", "given", "gone", "grown", "held", "hidden",
    "kept", "known", "laid", "left", "lent", "lost", "made", "meant", "met", "paid", "said",
    "seen", "sent", "shown", "spent", "stolen", "struck", "taken", "taught", "thrown", "told",
    "torn", "understood", "worn", "written",
}  # fmt: skip
"""Participles without -ed, and other words that say nothing of what is done."""
VERBS = {"embed", "exceed", "feed", "need", "seed", "string"}
NOUNS = {"embedding", "ending", "padding", "pooling", "ranking", "setting", "spacing", "timing"}
"""Words with these endings that are no participles."""


def is_participle(name: str) -> bool:
    """Whether a function's name says what became of something, not what it does."""
    word = re.sub(r"_(as|at|by|for|from|in|of|on|to|with)$", "", name.strip("_"))
    if "_" in word or word in VERBS | NOUNS:
        return False
    return word in IRREGULAR or re.fullmatch(r"\w{2,}(ed|ing)", word) is not None


def trees() -> Iterator[tuple[Path, ast.Module]]:
    """Every module of the three packages, parsed."""
    for package in PACKAGES:
        for path in modules(ROOT / package).values():
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def is_property(function: Function) -> bool:
    """Whether a method is read like data: an adjective is then as good as a noun."""
    return any("property" in ast.unparse(decorator) for decorator in function.decorator_list)


def test_modules_are_short() -> None:
    for path, _ in trees():
        assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_MODULE_LINES, path


def test_functions_fit_a_screen() -> None:
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, Function):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                assert lines <= MOST_FUNCTION_LINES, f"{path}:{node.lineno} {node.name}: {lines}"


def test_functions_are_verbs() -> None:
    found = [
        f"{path}:{node.lineno} {node.name}"
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, Function) and not is_property(node) and is_participle(node.name)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("_merged", True), ("drawn", True), ("turned_as", True), ("lost", True),
        ("_reading", True), ("written", True), ("mean_timing", False), ("load_round", False),
        ("split", False), ("embedding", False), ("cut_program", False), ("seed_of", False),
    ],
)  # fmt: skip
def test_participles_are_told_from_verbs(name: str, expected: bool) -> None:
    assert is_participle(name) is expected


def test_public_classes_have_names_of_their_own() -> None:
    places = defaultdict(list)
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(f"{path}:{node.lineno}")
    assert not {name: found for name, found in places.items() if len(found) > 1}
