"""Write sentences of Python's own reference: OUT/train/texts.csv and OUT/val/texts.csv.

    python -m examples.sentences data/sentences

Every fifth sentence is of val. The same version of Python gives the same sentences.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Sequence
from pathlib import Path

from pruner.utils import write_text

from .scenes.cutouts import split_fifth
from .words.text import list_sentences


def write_sentences(folder: Path, sentences: Sequence[str] | None = None) -> tuple[int, int]:
    """Write sentences (the reference's) as a folder of two splits; return how many each has."""
    found = list_sentences() if sentences is None else sentences
    parts = split_fifth(found)
    for name, part in zip(("train", "val"), parts):
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows([["text"], *([one] for one in part)])
        (folder / name).mkdir(parents=True, exist_ok=True)
        write_text(folder / name / "texts.csv", table.getvalue())
    return len(parts[0]), len(parts[1])


def main() -> None:
    """Write what the arguments ask for."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.sentences", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("out", type=Path, metavar="OUT")
    train, val = write_sentences(parser.parse_args().out)
    print(f"train: {train} sentences\nval: {val} sentences")


if __name__ == "__main__":
    main()
