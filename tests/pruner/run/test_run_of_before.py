"""A RUN that was made before the modules moved into rooms is read by every verb, and solves alike.

``run_of_before/`` is what measure, solve (60%), finetune, bench and report wrote then, of the
network and images of `tests.pruner.runs`; ``plan-75.json`` is what ``solve --budget 75%`` made of a
copy (with --no-check). Only what names a machine is put in here: its device, the images' folder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pruner import Plan
from pruner.run.cli import main

from ..runs import BEFORE, MODEL, prepare, restore_run


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return restore_run(prepare(tmp_path))


def steps(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text())["steps"]


def test_finished_steps_are_known_by_their_keys(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = steps(run)
    files = {path.name: path.read_bytes() for path in run.iterdir() if path.name != "run.json"}
    assert (
        main(["measure", MODEL, "--out", "RUN", "--quick", "--library", "none", "--seed", "3"]) == 0
    )
    assert main(["solve", "RUN", "--budget", "60%", "--images", "48"]) == 0
    assert main(["finetune", "RUN", "--epochs", "2", "--batch", "8", "--repair", "16"]) == 0
    said = capsys.readouterr().out
    assert "18 structures measured" in said
    assert "60% = 0.01926 ms" in said and "1.69 times as fast" in said
    assert "100.0% after fine-tuning" in said
    assert steps(run) == before
    untouched = ("importance.safetensors", "plan.json", "model.safetensors", "metrics.json")
    assert all((run / name).read_bytes() == files[name] for name in untouched)


def test_the_same_table_and_scores_give_the_same_plan(run: Path) -> None:
    score = steps(run)["score"]
    assert main(["solve", "RUN", "--budget", "75%", "--no-check"]) == 0
    assert steps(run)["score"] == score
    assert (run / "plan.json").read_bytes() == (BEFORE / "plan-75.json").read_bytes()


def test_later_steps_go_on_from_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "RUN", "--runs", "5"]) == 0
    assert main(["tables", "show", "RUN"]) == 0
    before = json.loads((run / "metrics.json").read_text())["pruned"]
    assert main(["finetune", "RUN", "--epochs", "1", "--batch", "8"]) == 0
    assert main(["finetune", "RUN", "--repair", "0"]) == 0
    # This fine-tune repaired nothing: the figure of the one before is not its own.
    after = json.loads((run / "metrics.json").read_text())["pruned"]
    assert before["accuracy_repaired"] is not None and after["accuracy_repaired"] is None
    assert after["accuracy_before_finetune"] == before["accuracy_before_finetune"]
    assert main(["report", "RUN"]) == 0
    said = capsys.readouterr().out
    assert "measured" in said and "18 structures" in said
    assert "tiny_network:make" in (run / "report.html").read_text()
    assert Plan.load(run / "plan.json") == Plan.load(BEFORE / "plan.json")
