"""The documents tell the truth: commands are accepted and run, code runs, links lead somewhere."""

from __future__ import annotations

import argparse
import functools
import importlib
import importlib.util
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
import yaml

import latency_tables
import pruner
import solver
from pruner.formats import find_format, format_names
from pruner.importance import CRITERIA
from pruner.run.cli import _build_parser, _collect_entries, main
from pruner.run.config import Config
from pruner.tasks import TASKS
from pruner.utils import is_object_name

from .pages import (
    ROOT,
    CodeBlock,
    find_unlike,
    list_anchors,
    list_links,
    list_pages,
    read_blocks,
    read_page,
    shorten,
    spell_out,
    substitute,
)
from .pruner.runs import MODEL, prepare, restore_run

PAGES = list_pages()
OWN_TESTS = {
    "docs/extending.md": "tests/pruner/tasks/test_extending.py",
    "docs/your_loop.md": "tests/test_your_loop.py",
}
"""Pages whose Python is run by a test of their own."""

OPEN = {
    "MODEL": MODEL,
    "demo:resnet20": MODEL,
    "N": "1",
    "K": "1",
    "images": "data",
    "1x3x224x224": "1x3x16x16",
    "runs/example": "RUN2",
}
"""What stands in commands for what users put in, and what the tests put in. The names RUN, RUN2
and DIR are there as they are."""

LESS = {
    "--probes": "5", "--points": "3", "--trials": "2", "--epochs": "1", "--repair": "24",
    "--runs": "5", "--images": "24", "--rounds": "2", "--round-epochs": "1",
    "--progressive-steps": "4", "--progressive-picks": "2", "--explore-rounds": "1",
    "--explore-steps": "1,1,1",
}  # fmt: skip
MORE = {
    "measure": ["--probes", "5", "--quick", "--library", "none"],
    "solve": [
        "--no-check",
        "--set",
        "solve.trial_steps=1",
        "--set",
        "score.path_steps=4",
        "--images",
        "24",
    ],
    "finetune": ["--batch", "12"],
    "bench": ["--runs", "5"],
    "frontier": ["--points", "3"],
    "tables": ["--library", "RUN"],
    "run": ["--set", "measure.probes=5", "--set", "measure.library=none"],
}
"""What makes each command quick."""

PARSER = _build_parser()
VERBS: dict[str, argparse.ArgumentParser] = next(
    dict(action.choices)
    for action in PARSER._actions
    if isinstance(action, argparse._SubParsersAction)
)
COMMON = ("--help", "--debug", "--verbose")
"""Options of every verb, which docs/commands/README.md names once."""


def list_options(verb: str) -> set[str]:
    found = (name for action in VERBS[verb]._actions for name in action.option_strings)
    return {name for name in found if name.startswith("--")}


def list_blocks() -> list[CodeBlock]:
    return [block for page in PAGES for block in read_blocks(page)]


def show_place(block: CodeBlock) -> str:
    return block.place


SHELL = [block for block in list_blocks() if block.is_shell]


# What is written is what the programs accept.


class Accepted(Exception):
    """A command line was parsed."""


def check_msprune(words: list[str]) -> None:
    """Parse a command line of msprune, and read what it says as far as that goes without a RUN."""
    options = PARSER.parse_args(words)
    config = Config.from_dict({"model": "demo:resnet20", **_collect_entries(options)})
    assert config.measure.engine in (*latency_tables.engine_names(), *latency_tables.TOOLS)
    assert config.score.criterion in CRITERIA
    task = config.task["name"] if isinstance(config.task, dict) else config.task
    assert task is None or task in TASKS or is_object_name(task)
    if hasattr(options, "format"):
        assert options.format in format_names()
        if options.format != "hf":  # a folder, which is no Format
            find_format(options.format, options.precision)


def check_python(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a module or a script until it has parsed its command line."""
    if words[0] == "-c":
        compile(words[1], "-c", "exec")
        return
    as_module = words[0] == "-m"
    name, arguments = (words[1], words[2:]) if as_module else (words[0], words[1:])
    if name in ("venv", "build", "pip"):
        return
    if name == "pruner":
        check_msprune(arguments)
        return
    if as_module:
        found = importlib.util.find_spec(name)
        assert found is not None, f"there is no module {name}"
    else:
        assert (ROOT / name).is_file(), f"there is no {name}"

    def parse(parser: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> NoReturn:
        known, unknown = parser.parse_known_args(args, namespace)
        assert not unknown, f"unknown: {unknown}"
        raise Accepted

    with monkeypatch.context() as patch, pytest.raises(Accepted):
        patch.setattr(argparse.ArgumentParser, "parse_args", parse)
        patch.setattr(sys, "argv", [name, *arguments])
        if as_module:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(str(ROOT / name), run_name="__main__")


def check_command(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    words = substitute(words, OPEN)
    program = Path(words[0]).name
    if program == "msprune":
        check_msprune(words[1:])
    elif program in ("python", "python3"):
        check_python(words[1:], monkeypatch)
    elif program == "accelerate":
        check_python(words[words.index("-m") :], monkeypatch)


@pytest.mark.parametrize("block", SHELL, ids=show_place)
def test_every_command_is_accepted(block: CodeBlock, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in block.commands:
        for command in spell_out(words):
            check_command(command, monkeypatch)


@pytest.mark.parametrize("page", PAGES)
def test_commands_within_sentences_have_the_options_that_they_name(page: str) -> None:
    for span in re.findall(r"`(msprune [a-z][^`]*)`", read_page(page)):
        words = span.split()
        assert words[1] in VERBS, f"{page}: {span}"
        if words[2:3] == ["--help"]:
            continue
        options = {word.split("=")[0] for word in words if word.startswith("--")}
        assert options <= list_options(words[1]), f"{page}: {span}"


def test_a_wrong_command_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in (
        "msprune mesure MODEL --out RUN", "msprune solve RUN --budgets 50%",
        "msprune solve RUN --budget half", "msprune export RUN --format onx",
        "msprune measure MODEL --out RUN --engine tflite", "msprune tables list|shw",
        "python -m benchmarks.solver --onyl x", "python -m benchmarks.nothing",
        "python examples/prepare.py --nothing",
        "accelerate launch -m pruner finetune RUN --epoch x",
    ):  # fmt: skip
        (words,) = CodeBlock("page", 1, "sh", text).commands
        with pytest.raises((SystemExit, AssertionError, pruner.PrunerError)):
            for command in spell_out(words):
                check_command(command, monkeypatch)


# What is written runs.


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny network, its images as data and DIR, and the measured RUN and RUN2."""
    folder = prepare(tmp_path_factory.mktemp("docs"))
    (folder / "DIR").symlink_to("data")
    shutil.copytree(restore_run(folder), folder / "RUN2")
    return folder


@pytest.fixture
def here(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "here"
    shutil.copytree(prepared, place, symlinks=True)
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    return place


def lacks_library(words: Sequence[str]) -> bool:
    """Whether something needs OpenVINO, and it is not installed here."""
    return "openvino" in words and importlib.util.find_spec("openvino") is None


def run_command(words: list[str]) -> None:
    """Run a command of msprune, or of Python, with little to do."""
    words = substitute(next(spell_out(words)), OPEN)
    program = Path(words[0]).name
    if program == "python" and words[1] == "-c":
        exec(words[2], {"__name__": "__main__"})
        return
    assert program == "msprune", f"{words}: say why it is not run"
    _, verb, *rest = words
    if verb == "measure" and "--out" in rest:
        shutil.rmtree(rest[rest.index("--out") + 1], ignore_errors=True)
    if not lacks_library(words):
        assert main([verb, *shorten(rest, LESS, MORE.get(verb, []))]) == 0, words


def make_names(folder: Path) -> dict[str, Any]:
    """What Python blocks speak of without saying where it is from."""
    torch.manual_seed(0)
    model = pruner.load_model(MODEL).module.eval()
    x, loss = torch.randn(1, 3, 16, 16), torch.nn.functional.cross_entropy
    batches = [(torch.randn(8, 3, 16, 16), torch.randint(0, 3, (8,))) for _ in range(4)]
    net = pruner.trace(model, (x,))
    table = latency_tables.LatencyTable.load(folder / "RUN")
    (cell,) = (cell for cell in net.cells() if cell.name == "conv2")
    return {
        "__name__": "page",
        "pruner": pruner, "model": model, "module": model, "x": x, "loss": loss, "cell": cell,
        "batches": batches, "net": net, "table": table, "dropped": (),
        "sizes": {name: dim.options()[0] for name, dim in net.dims.items()},
    }  # fmt: skip


def is_run(block: CodeBlock) -> bool:
    if block.reason is not None:
        return False
    return block.is_shell or (block.language == "python" and block.page not in OWN_TESTS)


RUN_PAGES = [page for page in PAGES if any(map(is_run, read_blocks(page)))]


@pytest.mark.parametrize("page", RUN_PAGES)
def test_what_is_shown_runs_and_prints_what_is_shown(
    page: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measure = functools.partial(latency_tables.measure, quick=True, probes=5)
    names = make_names(here) if any(b.language == "python" for b in read_blocks(page)) else {}
    printed: str | None = None
    for block in read_blocks(page):
        if block.language == "text" and printed is not None:
            shown = block.text.replace("demo:resnet20", MODEL)
            unlike = find_unlike(shown, printed)
            assert not unlike, f"{block.place}: not printed: {unlike}; but:\n{printed}"
        elif not is_run(block):
            printed = None
        elif block.is_shell:
            for words in block.commands:
                run_command(words)
            printed = capsys.readouterr().out
        elif not lacks_library(re.findall(r"\w+", block.text)):
            with monkeypatch.context() as patch:
                patch.setattr(latency_tables, "measure", measure)
                exec(compile(block.text, block.place, "exec"), names)
            printed = capsys.readouterr().out


def test_pages_with_tests_of_their_own_have_them() -> None:
    for page, test in OWN_TESTS.items():
        assert f'"{Path(page).name}"' in (ROOT / test).read_text(encoding="utf-8")


YAML = [block for block in list_blocks() if block.language == "yaml" and block.reason is None]


@pytest.mark.parametrize("block", YAML, ids=show_place)
def test_configurations_are_accepted(block: CodeBlock) -> None:
    content = yaml.safe_load(block.text)
    Config.from_dict({"model": "demo:resnet20", **content}, block.place)


# A page a verb.


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_a_page_that_names_its_options(verb: str) -> None:
    page = f"docs/commands/{verb}.md"
    assert page in PAGES, f"{page} is missing"
    text = read_page(page)
    named = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]*)", text))
    missing = list_options(verb) - named - {*COMMON}
    assert not missing, f"{page} does not name {sorted(missing)}"
    assert f"({verb}.md)" in read_page("docs/commands/README.md")
    places = [action for action in VERBS[verb]._actions if not action.option_strings]
    for place in places:
        for name in place.choices or (place.metavar or place.dest,):
            assert re.search(rf"\b{re.escape(str(name))}\b", text), f"{page}: {name}"


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_pages_of_verbs_have_tables_of_options_that_exist(verb: str) -> None:
    table = re.findall(r"^\| `(--[a-z-]+)", read_page(f"docs/commands/{verb}.md"), re.M)
    assert {*table} <= list_options(verb)


def test_what_all_verbs_have_in_common_is_named_once() -> None:
    text = read_page("docs/commands/README.md")
    assert all(re.search(rf"\b{name[2:]}`", text) for name in (*COMMON, "--version"))
    assert all(f"| {code} |" in text for code in (0, 2, 130, 141))


# Links, and the site.


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for link in list_links(page):
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page}: {link}"
        if anchor:
            name = target.resolve().relative_to(ROOT).as_posix()
            assert anchor in list_anchors(name), f"{page}: {link}"


def list_references() -> list[str]:
    return re.findall(r"^::: ([\w.]+)$", read_page("docs/reference.md"), re.M)


FORMER = ("tried", "Context", "Progress", "joined", "worthwhile", "DEVICE_LOG")
"""Names of before, and a logger: public, and not in the reference."""


def test_the_reference_has_every_public_name() -> None:
    names = list_references()
    for package in (pruner, latency_tables, solver):
        for name in {*package.__all__} - {*FORMER}:
            thing = getattr(package, name)
            places = [place for place in names if place.endswith(f".{name}")]
            assert any(_find_object(place) is thing for place in places), name


def _find_object(place: str) -> Any:
    module, _, name = place.rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    for library in ("mkdocs", "mkdocstrings"):
        pytest.importorskip(library)
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet",
         "--config-file", str(ROOT / ".ci" / "mkdocs.yml"), "--site-dir", str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    reference = (tmp_path / "reference" / "index.html").read_text(encoding="utf-8")
    for name in list_references():
        assert f'id="{name}"' in reference, name
