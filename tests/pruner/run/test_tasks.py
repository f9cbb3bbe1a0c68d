"""Runs of tasks other than the usual one: a segmenter, its backbone, and what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import pruner
from pruner.models import load_model, splice
from pruner.run.cli import main
from pruner.tasks import Segmentation
from pruner.tuning import evaluate

from ..segments import MODEL, SOURCE, Segmenter, draw_tensors, write_masks

MEASURE = ("--quick", "--probes", "5", "--library", "none", "--seed", "3")
TASKS = """
from pruner import make_task
from pruner.data import wrap_datasets
from pruner.tasks import Segmentation
from tests.pruner.segments import draw_tensors


def squares(count=24, **more):
    return Segmentation(wrap_datasets((draw_tensors(count), draw_tensors(8, 2))), **more)


def unlabelled():
    return make_task(data=(draw_tensors(16), draw_tensors(8, 2)), read=lambda found: found["out"])


def broken():
    def loss(outputs, targets):
        return outputs.sum() * float("nan")

    return make_task(data=(draw_tensors(16), draw_tensors(8, 2)), loss=loss, name="broken",
                     read=lambda found: found["out"])


def not_a_task():
    return 3
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tiny_segmenter.py").write_text(SOURCE)
    (tmp_path / "own_tasks.py").write_text(TASKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def read_metrics(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text())


def test_a_segmenter_by_files_from_beginning_to_end(here: Path, capsys) -> None:
    write_masks(here / "data", 16, 4)
    lines = [
        f"model: {MODEL}", "out: RUN", "data: data", "budgets: [60%]", "seed: 3",
        "task: {name: segmentation, workers: 0}",
        "measure: {quick: true, probes: 5, library: none}", "solve: {check: false}",
        "score: {images: 16, batch_size: 4}", "finetune: {epochs: 1, batch: 8, repair: 16}",
    ]  # fmt: skip
    (here / "run.yaml").write_text("\n".join(lines))
    assert main(["run", "run.yaml"]) == 0
    assert "60%: mean IoU " in capsys.readouterr().err
    found = read_metrics(here / "RUN")
    assert found["metric"] == {"name": "mean IoU", "unit": "%", "higher_is_better": True}
    assert 0 < found["dense"]["mean_iou"] < 1 and 0 < found["pruned"]["mean_iou"] < 1
    assert "mean_iou_repaired" in found["pruned"] and "accuracy" not in json.dumps(found)
    before = (here / "RUN" / "metrics.json").read_bytes()
    assert main(["finetune", "RUN"]) == 0
    assert (here / "RUN" / "metrics.json").read_bytes() == before
    assert main(["report", "RUN"]) == 0
    page = (here / "RUN" / "report.html").read_text()
    assert "mean IoU after fine-tuning" in page and "segmentation" in page


def test_a_backbone_from_beginning_to_end(here: Path, capsys) -> None:
    lines = [
        f"model: {MODEL}", "out: PART", "submodule: backbone", "budgets: [75%]", "seed: 3",
        "task: {name: 'own_tasks:squares', count: 20}",
        "measure: {quick: true, probes: 5, library: none}",
        "solve: {check: false, trials: 2, trial_steps: 4}", "score: {images: 16}",
        "finetune: {epochs: 2, batch: 8, repair: 16}",
    ]  # fmt: skip
    (here / "part.yaml").write_text("\n".join(lines))
    assert main(["run", "part.yaml"]) == 0
    said = capsys.readouterr().err
    assert "mean IoU" in said and "the whole model" in said
    found = read_metrics(here / "PART")
    assert found["submodule"] == "backbone"
    assert found["whole"]["dense_ms"] > 0 and found["whole"]["pruned_ms"] > 0
    model = load_model(MODEL, seed=3).module
    whole = splice(model, "backbone", pruner.load(here / "PART", part=True))
    assert isinstance(whole, Segmenter)
    batches = [(x[None], y[None]) for x, y in draw_tensors(8, 2)]
    alone = evaluate(whole, batches, Segmentation())
    assert alone.value == pytest.approx(found["pruned"]["mean_iou"], abs=1e-6)
    assert "the whole model by torch" in (here / "PART" / "report.html").read_text()


def test_without_labels_the_divergence_is_told(here: Path, capsys) -> None:
    assert main(["measure", MODEL, "--out", "RUN", *MEASURE]) == 0
    task = ("--task", "own_tasks:unlabelled")
    solve = ("solve", "RUN", "--budget", "70%", "--no-check", *task)
    assert main([*solve, "--criterion", "taylor"]) == 2
    assert "has no loss" in capsys.readouterr().err
    assert main([*solve, "--images", "16"]) == 0
    assert main(["finetune", "RUN", "--epochs", "1", "--batch", "8"]) == 0
    assert "divergence from dense (lower is better)" in capsys.readouterr().out
    found = read_metrics(here / "RUN")
    assert found["dense"]["divergence_from_dense"] == pytest.approx(0, abs=1e-9)


WRONG = {
    "unknown": (["--task", "segmentaton"], "did you mean segmentation?"),
    "no module": (["--task", "nothing:make"], "cannot be imported"),
    "no factory": (["--task", "own_tasks:square"], "squares"),
    "no task": (["--task", "own_tasks:not_a_task"], "made a int"),
    "no argument": (["--task", "own_tasks:unlabelled", "--data", "data"], "does not take data"),
    "nothing said": (["--data", "."], "--task classification, "),
    "no data": (["--task", "segmentation"], "give --data"),
    "NaN": (["--task", "own_tasks:broken", "--criterion", "taylor"], "finite"),
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measured")
    (folder / "tiny_segmenter.py").write_text(SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        assert main(["measure", MODEL, "--out", "RUN", *MEASURE]) == 0
    return folder / "RUN"


@pytest.mark.parametrize("case", sorted(WRONG))
def test_a_wrong_task_is_one_line_and_leaves_the_run(
    case: str, here: Path, measured: Path, capsys
) -> None:
    options, words = WRONG[case]
    before = {path.name: path.read_bytes() for path in measured.iterdir() if path.is_file()}
    assert main(["solve", str(measured), "--budget", "70%", "--no-check", *options]) == 2
    (line,) = (x for x in capsys.readouterr().err.splitlines() if x.startswith("msprune:"))
    assert words in line
    after = {path.name: path.read_bytes() for path in measured.iterdir() if path.is_file()}
    assert after == before
