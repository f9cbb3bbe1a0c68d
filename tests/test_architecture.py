"""The walks of docs/architecture.md name functions that exist, in the order of their calls."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

from pruner.run.cli import main

from .pruner.runs import prepare, restore_run

MAP = Path(__file__).parents[1] / "docs" / "architecture.md"


def read_walks() -> dict[str, list[str]]:
    """Title -> the dotted names of its functions, in order."""
    walks: dict[str, list[str]] = {}
    for line in MAP.read_text(encoding="utf-8").splitlines():
        if line.startswith("### Walk: "):
            walks[line.removeprefix("### Walk: ")] = []
        elif walks and (found := re.match(r"(\d+)\. `([\w.]+)`", line)):
            steps = list(walks.values())[-1]
            assert int(found[1]) == len(steps) + 1
            steps.append(found[2])
        elif line.startswith("## ") and walks:
            break
    return walks


def find_code(name: str) -> CodeType:
    """The code of a function or method; of a class that of its construction."""
    module, rest = name, list[str]()
    while True:
        try:
            found: Any = importlib.import_module(module)
            break
        except ModuleNotFoundError:
            module, _, last = module.rpartition(".")
            rest.insert(0, last)
    for part in rest:
        found = getattr(found, part)
    if isinstance(found, type):
        found = found.__init__
    found = getattr(found, "__wrapped__", found)  # of a context manager
    return getattr(found, "__func__", found).__code__


def is_subsequence(names: list[str], calls: list[str]) -> bool:
    rest = iter(calls)
    return all(name in rest for name in names)


def test_walks_are_in_the_order_of_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    restore_run(prepare(tmp_path))
    walks = read_walks()
    assert len(walks) == 3
    names = {find_code(name): name for steps in walks.values() for name in steps}
    calls: list[str] = []

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code in names:
            calls.append(names[frame.f_code])

    sys.setprofile(note)
    try:
        assert main(["solve", "RUN", "--budget", "75%", "--no-check"]) == 0
    finally:
        sys.setprofile(None)
    for title, steps in walks.items():
        assert is_subsequence(steps, calls), f"{title}: called were {list(dict.fromkeys(calls))}"


@pytest.mark.parametrize(
    ("names", "expected"), [(["a", "c"], True), (["c", "a"], False), (["a", "d"], False)]
)
def test_subsequences_are_told(names: list[str], expected: bool) -> None:
    assert is_subsequence(names, ["a", "b", "c"]) is expected
