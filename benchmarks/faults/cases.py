"""A case of the campaign and its result, as plain data that is noted and counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .commands import Said

REFUSED = "refused in one line"


@dataclass(frozen=True)
class Result:
    """What became of a case: whether nothing was lost, how it ended, and what was said."""

    held: bool
    how: str
    detail: str = ""

    @classmethod
    def survive(cls, how: str, detail: str = "") -> Result:
        """Return the result of a case in which nothing was lost."""
        return cls(True, how, detail)

    @classmethod
    def fail(cls, detail: str) -> Result:
        """Return the result of a case that shows a fault of msprune's."""
        return cls(False, "FAILED", detail)


@dataclass(frozen=True)
class Case:
    """One fault: its part of the campaign, its number there, its kind, and what tries it.

    ``attempt`` gets a folder of its own, which does not exist yet.
    """

    part: str
    number: int
    kind: str
    attempt: Callable[[Path], Result]

    @property
    def name(self) -> str:
        """``files:137``."""
        return f"{self.part}:{self.number}"

    def note(self, result: Result) -> dict[str, Any]:
        """Return what is noted of it."""
        return {"name": self.name, "part": self.part, "kind": self.kind, **asdict(result)}


def judge_refusal(said: Said, names: tuple[str, ...] = ()) -> Result | None:
    """Return the result of a command that did not do it: one line, which names one of these.

    None where it did.
    """
    if said.crashed:
        return Result.fail(f"exit {said.code}: {(said.err or said.out)[-1500:]}")
    if said.code == 0:
        return None
    if len(said.lines) != 1:
        return Result.fail(f"exit {said.code} with {len(said.lines)} lines: {said.err[-800:]}")
    (line,) = said.lines
    if names and not any(name in line for name in names):
        return Result.fail(f"names none of {', '.join(names)}: {line}")
    return Result.survive(REFUSED, line)
