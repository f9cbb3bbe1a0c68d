"""The verbs frontier and solve --pick, and constraints from the command line to the figures."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

import solver
from pruner.run import Config, main
from pruner.run.run_folder import RunFolder

from ..runs import enter_copy, prepare, restore_run


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a measured RUN of the tiny network."""
    folder = prepare(tmp_path_factory.mktemp("frontier"))
    restore_run(folder)
    return folder


@pytest.fixture
def run(measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A copy of it, its folder the current one."""
    folder = enter_copy(measured, tmp_path / "copy", monkeypatch)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setitem(sys.modules, "tiny_network", None)
    del sys.modules["tiny_network"]
    return "RUN"


def read(run: str) -> pd.DataFrame:
    return pd.read_csv(Path(run) / "frontier.csv")


def figures(run: str) -> dict:
    return json.loads((Path(run) / "metrics.json").read_text())


MAGNITUDE = ("--criterion", "magnitude")


def test_frontier_then_pick(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["frontier", run, *MAGNITUDE, "--points", "7"]) == 0
    rows = read(run)
    assert list(rows["point"]) == [1, 2, 3, 4, 5, 6, 7]
    assert rows["value"].is_monotonic_increasing
    assert rows["budget_ms"].is_monotonic_increasing
    assert rows["budget"].iloc[-1] == "100%"
    assert (rows["gap"] == 0).all()
    told = capsys.readouterr().out
    assert "all proven" in told
    with Image.open(Path(run) / "frontier.png") as plot:
        assert plot.width > plot.height > 300
    for pick in ("knee", "3"):
        assert main(["solve", run, *MAGNITUDE, "--pick", pick, "--no-check"]) == 0
        number = RunFolder(run).read_state()["steps"]["frontier"]["knee"] if pick == "knee" else 3
        assert figures(run)["solver"]["value"] == pytest.approx(rows["value"][number - 1])
        assert figures(run)["budget"] == rows["budget"][number - 1]


def test_an_interrupted_frontier_goes_on(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    solve, done = solver.solve, []

    def stop_at_fourth(*values, **named):
        done.append(1)
        if len(done) == 5:  # the first finds the least budget
            raise KeyboardInterrupt
        return solve(*values, **named)

    monkeypatch.setattr(solver, "solve", stop_at_fourth)
    command = ["frontier", run, *MAGNITUDE, "--points", "6"]
    assert main(command) == 130
    assert not (Path(run) / "frontier.csv").exists()
    (journal,) = (Path(run) / "checkpoints").glob("frontier-*.jsonl")
    journal.write_text(journal.read_text()[:-9])  # and the last line was cut off
    done.extend([1] * 9)
    assert main(command) == 0
    assert len(done) == 5 + 9 + 1 + 4
    assert len(read(run)) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--pick", "knee"), "has no frontier: msprune frontier RUN"),
        ((), "solve takes one of --budget"),
        (("--budget", "50%", "--pick", "3"), "solve takes one of --budget"),
        (("--budget", "50%", "--keep", "stam"), "matches no dim or block .* did you mean stem"),
        (("--budget", "50%", "--also", "params"), "expected an amount|neither params"),
        (("--budget", "50%", "--also", "params=3"), "params is .* at least, and 3 is the most"),
        (("--budget", "50%", "--also", "elsewhere=3ms"), "elsewhere=.*: neither params, macs"),
        (("--budget", "50%", "--min-width", "stem"), "--min-width: expected GLOB=N"),
        (("--budget", "50%", "--step", "stem=x"), "solve.step.*whole number"),
        (("--budget", "50%", "--max-depth", "-1"), "max_depth"),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    run: str, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["solve", run, *MAGNITUDE, "--no-check", *arguments]) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(message, told), told


def test_constraints_reach_the_figures_and_the_report(run: str) -> None:
    shutil.copytree(run, "OTHER")
    further = ("params=70%", "macs=60%", "memory=95%", "OTHER=75%")
    also = [text for one in further for text in ("--also", one)]
    asked = ["--budget", "80%", "--min-width", "stem=8", "--no-blocks", *also]
    assert main(["solve", run, *MAGNITUDE, "--no-check", *asked]) == 0
    also = {one["resource"]: one for one in figures(run)["also"]}
    assert list(also)[:3] == ["params", "macs", "memory"]
    assert next(iter(reversed(also))).endswith("OTHER")
    assert all(one["pruned"] <= one["limit"] * (1 + 1e-9) for one in also.values())
    kept = {dim["name"]: dim["kept"] for dim in figures(run)["structure"]["dims"]}
    assert kept["stem"] >= 8
    assert all(block["kept"] for block in figures(run)["structure"]["blocks"])
    assert main(["report", run]) == 0
    assert "params, at most" in (Path(run) / "report.html").read_text()


def test_the_same_in_yaml(run: str) -> None:
    config = Config.from_dict(
        {
            "model": "x",
            "solve": {
                "also": {"params": "1.5M", "memory": "6MB"},
                "keep": "layer4.*",
                "min_width": {"stem*": 16, "conv*": "50%"},
                "step": {"conv*": 8},
                "blocks": False,
                "max_depth": 3,
                "uniform": ["blocks.*.mlp"],
            },
        }
    )
    assert config.solve.also == ("params=1.5M", "memory=6MB")
    assert config.solve.keep == ("layer4.*",)
    assert Config.from_dict(config.to_dict()) == config
