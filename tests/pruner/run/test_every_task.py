"""Every built-in task by its own files, from beginning to end, and what goes wrong in one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pruner.run.cli import main
from pruner.tasks import TASKS

from ..every_task import CASES
from ..runs import contents

# So much that every network has a structure for it on any machine: tiny ones are overhead mostly.
BUDGET = "92%"
QUICK = ("--quick", "--probes", "5", "--library", "none", "--seed", "3")
FILES = """
from tests.pruner.every_task import make_data

NAME = "classification"


def nan():
    return make_data(NAME, "nan")


def wrong():
    return make_data(NAME, "wrong")


def blank():
    return make_data(NAME, "blank")


def empty():
    return make_data(NAME, "empty")


def untested():
    return make_data(NAME, "untested")
"""


@pytest.fixture(scope="module", params=sorted(CASES))
def finished(request, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A task's name and its finished RUN, in the folder of its data."""
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    case = CASES[name]
    case.write(folder / "data")
    (folder / f"broken_{name}.py").write_text(FILES.replace("classification", name))
    task = json.dumps(dict(case.settings))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        given = [word for text in case.arguments for word in ("--input", text)]
        assert main(["measure", case.network, "--out", "RUN", *QUICK, *given]) == 0
        solve = ["solve", "RUN", "--budget", BUDGET, "--no-check", "--data", "data", "--task", task]
        assert main([*solve, "--images", "16"]) == 0
        tune = ["finetune", "RUN", "--epochs", "1", "--batch", "8", "--repair", "16"]
        assert main([*tune, "--lr", "0.001"]) == 0
        yield name, folder


def test_the_tasks_are_all_here() -> None:
    assert {*TASKS} - {"detection"} == {*CASES}


def test_it_runs_from_beginning_to_end(finished, capsys) -> None:
    name, folder = finished
    case, run = CASES[name], folder / "RUN"
    found = json.loads((run / "metrics.json").read_text())
    for side in ("dense", "pruned"):
        assert found[side][case.metric] is not None, side
        assert {*found[side].get("others", {})} == {*case.other}
    assert f"{case.metric}_repaired" in found["pruned"]
    if case.other:
        assert {*found["pruned"]["others_repaired"]} == {*case.other}
    before = contents(run)
    assert main(["finetune", "RUN"]) == 0
    said = capsys.readouterr().out
    assert contents(run) == before  # resumed: nothing was done anew
    assert said.count("after fine-tuning") == 1 + len(case.other)
    assert main(["report", "RUN"]) == 0
    page = (run / "report.html").read_text()
    assert page.count("after fine-tuning") == 1 + len(case.other)
    (run / "report.html").unlink()


WRONG = {
    "nan": (("taylor", "measured", "finetune"), "finite"),
    "empty": (("taylor", "measured", "finetune"), "empty"),
    "wrong": (("finetune",), ""),
    "blank": (("finetune",), ""),
    "untested": (("finetune",), "test"),
}


@pytest.mark.parametrize("kind", sorted(WRONG))
def test_what_goes_wrong_is_one_line_and_leaves_the_run(kind: str, finished, capsys) -> None:
    name, folder = finished
    case, run = CASES[name], folder / "RUN"
    spoilt = {"wrong": case.wrong, "blank": case.blank}
    if kind in spoilt and spoilt[kind] is None or (kind, name) == ("nan", "embedding"):
        pytest.skip("nothing of this task can be so")
    steps, words = WRONG[kind]
    words = spoilt[kind][1] if kind in spoilt else words
    before = contents(run)
    task = json.dumps(dict(case.settings))
    own = ("--data", f"broken_{name}:{kind}", "--task", task)
    for step in steps:
        solve = ("solve", "RUN", "--budget", BUDGET, "--no-check", "--criterion", step)
        command = ("finetune", "RUN", "--epochs", "1") if step == "finetune" else solve
        if (name, step) == ("embedding", "taylor"):
            continue  # it has no loss
        capsys.readouterr()
        assert main([*command, *own]) == 2, step
        (line,) = (x for x in capsys.readouterr().err.splitlines() if x.startswith("msprune: "))
        assert words in line, (step, line)
        after = contents(run)
        assert {k: v for k, v in after.items() if not k.startswith("checkpoints")} == before
