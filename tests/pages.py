"""What the documents show: their code blocks, the commands in them, and how these become small."""

from __future__ import annotations

import difflib
import itertools
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROGRAMS = (
    "msprune", "python", "python3", "pip", "pytest", "pre-commit", "accelerate", "sh", "mkdocs",
    "apt-get", "dpkg", "for", "run",
)  # fmt: skip
"""What a block of commands begins with, where it does not say its language."""

_MARK = re.compile(r"<!-- not run: (.+?) -->$", re.S)
_NOT_ALWAYS = ("dropped: ", "note: ")
"""Lines that are printed of some networks and some machines only."""
_NUMBER = re.compile(r"[-+~]?\b\d[\d,.]*(e[-+]?\d+)?%?")


@dataclass(frozen=True)
class CodeBlock:
    """A fenced block of a page.

    Attributes:
        page: The page, relative to the repository.
        line: Where its fence opens, from 1.
        language: What stands behind the fence.
        text: What is in it.
        reason: Why it is not run, where a comment before it says so.
    """

    page: str
    line: int
    language: str
    text: str
    reason: str | None = None

    @property
    def place(self) -> str:
        """Where it stands, for messages."""
        return f"{self.page}:{self.line}"

    @property
    def is_shell(self) -> bool:
        """Whether it is commands."""
        first = Path((self.text.split() or [""])[0]).name
        return self.language in ("sh", "bash") or (not self.language and first in PROGRAMS)

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command, with comments left out and continued lines joined."""
        lines = self.text.replace("\\\n", " ").splitlines()
        parts = [part for line in lines for part in re.split(r"\s&&\s", line)]
        return [words for part in parts if (words := shlex.split(part, comments=True))]


def list_pages() -> list[str]:
    """The documents that tell users what to type."""
    pages = ["README.md", "CONTRIBUTING.md", "examples/README.md"]
    docs = (path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
    return [*pages, *sorted(docs)]


def read_page(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def read_blocks(page: str) -> list[CodeBlock]:
    """Every fenced block of a page, in order."""
    lines, found, start = read_page(page).splitlines(), [], None
    for number, line in enumerate(lines):
        if not line.lstrip().startswith("```"):
            continue
        if start is None:
            start = number
            continue
        before = "\n".join(lines[:start]).rstrip()
        opened = before.rfind("<!--")
        mark = _MARK.match(before, opened) if opened >= 0 else None
        reason = " ".join(mark[1].split()) if mark else None
        text = "\n".join(lines[start + 1 : number]) + "\n"
        language = lines[start].strip().removeprefix("```")
        found.append(CodeBlock(page, start + 1, language, text, reason))
        start = None
    assert start is None, f"{page}:{start}: a block that does not end"
    return found


def spell_out(words: Sequence[str]) -> Iterator[list[str]]:
    """Every command that a synopsis stands for.

    What is in brackets is given, of ``A | B`` and ``a|b`` each is taken once, ``...`` is left out.
    """
    choices: list[list[str]] = []
    inside, joins = False, False
    for word in words:
        if word == "...":
            continue
        if word == "|":
            joins = True
            continue
        if word.startswith("[-"):
            inside, word = True, word[1:]
        if inside and word.endswith("]"):
            inside, word = False, word[:-1]
        several = word.split("|") if re.fullmatch(r"[\w-]+(\|[\w-]+)+", word) else [word]
        if joins:
            choices[-1] += several
        else:
            choices.append(several)
        joins = False
    return (list(one) for one in itertools.product(*choices))


def substitute(words: Sequence[str], names: dict[str, str]) -> list[str]:
    """Put what is at hand in the place of what a page leaves open, as a word or a part of one."""
    alike = re.compile(rf"(?<![\w./-])({'|'.join(map(re.escape, names))})(?![\w-])")
    return [alike.sub(lambda found: names[found[1]], word) for word in words]


def shorten(words: Sequence[str], less: dict[str, str], more: Sequence[str]) -> list[str]:
    """Give options smaller values, and others that make a command quick unless they are there."""
    result = list(words)
    for place, word in enumerate(result[:-1]):
        result[place + 1] = less.get(word, result[place + 1])
    given = {word for word in words if word.startswith("--")}
    groups = [list(group) for group in _split_options(more)]
    return result + [w for group in groups if group[0] == "--set" or group[0] not in given
                     for w in group]  # fmt: skip


def _split_options(words: Sequence[str]) -> Iterator[list[str]]:
    group: list[str] = []
    for word in words:
        if word.startswith("--") and group:
            yield group
            group = []
        group.append(word)
    if group:
        yield group


def find_unlike(shown: str, printed: str) -> list[str]:
    """The lines of a page's output that nothing like was printed; numbers do not count."""
    lines = [_tell_kind(line) for line in printed.splitlines()]
    return [
        line
        for line in shown.splitlines()
        if line.strip() not in ("", "...")
        and not line.lstrip().startswith(_NOT_ALWAYS)
        and not any(_alike(_tell_kind(line), other) for other in lines)
    ]


def _tell_kind(line: str) -> list[str]:
    return _NUMBER.sub("#", line).split()


def _alike(shown: list[str], printed: list[str]) -> bool:
    return difflib.SequenceMatcher(None, shown, printed, autojunk=False).ratio() >= 0.3


def list_links(page: str) -> list[str]:
    """The relative links of a page, with their anchors."""
    text = re.sub(r"```.*?```", "", read_page(page), flags=re.S)
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def list_anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as renderers of Markdown make them."""
    text = re.sub(r"```.*?```", "", read_page(page), flags=re.S)
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in titles)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in plain}
