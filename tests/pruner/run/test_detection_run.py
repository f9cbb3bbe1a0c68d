"""Runs of a tiny detector by its parts, from the command line to the whole model again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import pruner
from pruner.data import Preprocessing, open_coco
from pruner.errors import PrunerError
from pruner.run.cli import main
from pruner.surgery import save
from pruner.tasks import Detection
from pruner.tuning import evaluate, loop
from pruner.utils import read_tensors, write_tensors

from ..scenes import MODEL, SIZE, SOURCE, write_scenes

pytest.importorskip("torchmetrics")
PARTS = ("--submodule", "backbone", "--submodule", "head")
MEASURE = ("--quick", "--probes", "5", "--library", "none", "--seed", "3")
SOLVE = ("--budget", "92%", "--no-check", "--task", "detection", "--images", "16")


def enter(folder: Path, patch: pytest.MonkeyPatch) -> None:
    (folder / "tiny_detector.py").write_text(SOURCE)
    patch.chdir(folder)
    patch.syspath_prepend(str(folder))


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with scenes and RUN, two parts of a detector that were solved for."""
    folder = tmp_path_factory.mktemp("detector")
    write_scenes(folder / "data", 16, 8)
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        assert main(["measure", MODEL, *PARTS, "--out", "RUN", *MEASURE]) == 0
        shutil.copytree(folder / "RUN", folder / "MEASURED")
        assert main(["solve", "RUN", "--data", "data", *SOLVE]) == 0
    return folder


@pytest.fixture
def here(solved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RUN", "MEASURED"):
        shutil.copytree(solved / name, tmp_path / name)
    (tmp_path / "data").symlink_to(solved / "data")
    enter(tmp_path, monkeypatch)
    return tmp_path


def test_a_killed_fine_tune_ends_alike_and_the_whole_is_loaded(here: Path, capsys) -> None:
    shutil.copytree("RUN", "KILLED")
    tune = ("--data", str(here / "data"), "--epochs", "2", "--batch", "4", "--repair", "8")
    assert main(["finetune", "RUN", *tune]) == 0
    assert "mAP" in capsys.readouterr().out
    close = loop.TrainingLoop._close_epoch

    def stop(self: loop.TrainingLoop) -> None:
        if len(self.state.results) == 1:
            raise KeyboardInterrupt
        close(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.TrainingLoop, "_close_epoch", stop)
        assert main(["finetune", "KILLED", *tune]) == 130
    assert main(["finetune", "KILLED", *tune]) == 0
    for name in ("RUN", "KILLED"):
        assert main(["report", name]) == 0
    whole = [pruner.load(name) for name in ("RUN", "KILLED")]
    states = [model.state_dict() for model in whole]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    found = json.loads(Path("RUN/metrics.json").read_text())
    assert found["metric"] == {"name": "mAP", "unit": "%", "higher_is_better": True}
    assert found["submodule"] == ["backbone", "head"]
    data = open_coco("data", Preprocessing((SIZE, SIZE), (0, 0, 0), (1, 1, 1)))
    value = evaluate(whole[0], data.test(), Detection()).value
    assert value == pytest.approx(found["pruned"]["map"], abs=1e-6)
    assert found["whole"]["dense_ms"] > 0 and found["whole"]["pruned_ms"] > 0
    page = Path("RUN/report.html").read_text()
    assert "its backbone and head alone" in page and "the whole model by torch" in page
    part = pruner.load("RUN", part=True)
    assert isinstance(part, torch.fx.GraphModule) and type(whole[0]).__name__ == "SSD"
    again = pruner.splice(whole[0], ["backbone", "head"], whole[0])
    assert type(again) is type(whole[0])


def test_a_whole_that_cannot_be_built_is_said(here: Path, monkeypatch) -> None:
    tensors, notes = read_tensors("RUN/whole.safetensors", "whole")
    copy = here / "COPY"  # a folder that no run.json seals
    assert not any(name.startswith(("backbone.", "head.")) for name in tensors)
    for name, words in (
        ("os:system", "makes none"),
        ("pathlib:Path", "makes none"),
        ("torch:load", "makes none"),
        ("torch.hub:load", "makes none"),
        ("numpy:load", "makes none"),
        ("pruner.run.cli:os.system", "makes none"),
        ("nothing_there:make", "there is no module"),
        ("torchvision:nothing", "cannot be built here"),
    ):
        copy.mkdir(exist_ok=True)
        shutil.copy("RUN/model.safetensors", copy)
        write_tensors(copy / "whole.safetensors", "whole", tensors, {**notes, "model": name})
        with pytest.raises(PrunerError, match=words):
            pruner.load(copy)
    assert isinstance(pruner.load("RUN", part=True), torch.fx.GraphModule)
    save(pruner.load("RUN", part=True), None, "ALONE")
    assert isinstance(pruner.load("ALONE"), torch.fx.GraphModule)


def change(path: Path, **lists: object) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | lists))


def spoil(folder: Path, case: str) -> None:
    """Write scenes with something wrong."""
    write_scenes(folder, 4, 2)
    train = folder / "train" / "_annotations.coco.json"
    box = {"id": 0, "image_id": 0, "category_id": 1, "bbox": [0, 0, 9, 9]}
    some = [{"id": k, "name": str(k)} for k in (1, 2)]
    if case == "no images":
        change(train, images=[], annotations=[])
    elif case == "unknown category":
        change(train, annotations=[box | {"category_id": 7}])
    elif case == "no numbers":
        change(train, annotations=[box | {"bbox": [0, 0, "9", 9]}])
    for path in folder.glob("*/*.json"):
        if case == "more categories":
            change(path, annotations=[], categories=[*some, {"id": 3, "name": "3"}])
        elif case == "fewer categories":
            change(path, annotations=[], categories=some[:1])
        elif case == "no test boxes":
            change(path, annotations=[])


WRONG = {
    "no images": "no samples to train on",
    "unknown category": "has category 7, which is not in the file",
    "no numbers": "expected bbox",
    "more categories": "has 3 categories",
    "fewer categories": "labels: ids",
    "no test boxes": "none of the test images has a box",
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_boxes_are_one_line_and_leave_the_run(case: str, here: Path, capsys) -> None:
    spoil(here / "wrong", case)
    verb = "finetune" if case == "no test boxes" else "solve"
    run = here / ("RUN" if verb == "finetune" else "MEASURED")
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    more = ("--epochs", "1") if verb == "finetune" else SOLVE
    assert main([verb, str(run), "--data", "wrong", *more]) == 2
    (line,) = (x for x in capsys.readouterr().err.splitlines() if x.startswith("msprune: "))
    assert WRONG[case] in line
    after = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    assert after == before


def test_what_is_no_detector_or_another_part_is_said(here: Path, capsys) -> None:
    assert main(["measure", MODEL, "--submodule", "backbone", "--out", "RUN", *MEASURE]) == 2
    assert "of --submodule backbone, head" in capsys.readouterr().err
    nested = ("--submodule", "backbone", "--submodule", "backbone.stem")
    assert main(["measure", MODEL, *nested, "--out", "NEW", *MEASURE]) == 2
    assert "lies within" in capsys.readouterr().err and not Path("NEW").exists()
