"""Writes what commands print into the documents: ``python -m tests.write_pages docs/tutorial.md``.

The pages' commands and Python run one after the other in one folder, nothing substituted, and
every block of text behind them gets what was printed. Of a block that has a line ``...`` as many
lines stay before and behind it as there were.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .pages import ROOT, CodeBlock, read_blocks, read_page


def run_block(block: CodeBlock, folder: Path) -> str:
    """What a block prints to standard output."""
    if block.language == "python":
        return call([sys.executable, "-c", block.text], folder)
    return "".join(call(find_program(words), folder) for words in block.commands)


def find_program(words: list[str]) -> list[str]:
    """A command line by the interpreter that this runs in."""
    programs = {"msprune": [sys.executable, "-m", "pruner"], "python": [sys.executable]}
    return [*programs[words[0]], *words[1:]]


def call(words: list[str], folder: Path) -> str:
    start = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MSPRUNE_CACHE": str(folder / ".cache")}
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    print(f"  {time.perf_counter() - start:.1f} s: {' '.join(words[1:])[:90]}", flush=True)
    if done.returncode:
        sys.exit(f"{words}: {done.stderr}")
    return done.stdout


def fit(printed: str, before: str) -> str:
    """Leave out the middle where the page does."""
    lines, shown = printed.rstrip("\n").splitlines(), before.rstrip("\n").splitlines()
    if "..." in shown:
        head = shown.index("...")
        tail = len(shown) - head - 1
        lines = [*lines[:head], "...", *lines[len(lines) - tail :]]
    return "\n".join(lines) + "\n"


def write_page(page: str, folder: Path) -> None:
    text, printed = read_page(page), None
    lines = text.splitlines(keepends=True)
    changes: list[tuple[CodeBlock, str]] = []
    for block in read_blocks(page):
        if block.reason is None and (block.is_shell or block.language == "python"):
            printed = run_block(block, folder)
        elif block.language == "text" and printed is not None:
            changes.append((block, fit(printed, block.text)))
    for block, new in reversed(changes):
        end = block.line + len(block.text.splitlines())
        lines[block.line : end] = [new]
    (ROOT / page).write_text("".join(lines), encoding="utf-8")


def write_pages() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", nargs="+")
    parser.add_argument("--folder", type=Path, help="one to go on in; default: a new one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as fresh:
        for page in options.pages:
            print(page)
            write_page(page, options.folder or Path(fresh))


if __name__ == "__main__":
    write_pages()
