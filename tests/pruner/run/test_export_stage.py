"""The verb export on a whole RUN: files beside its others, verified, recorded, and refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import pruner
from pruner.run.cli import main
from pruner.run.run_folder import RunFolder
from pruner.utils import digest_file

from ..runs import enter_copy, prepare, read_image, restore_run, start

ort = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = prepare(tmp_path_factory.mktemp("export"))
    restore_run(folder)
    return folder


@pytest.fixture
def here(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a solved RUN's folder as the current one."""
    return enter_copy(place, tmp_path / "here", monkeypatch)


def test_a_run_without_its_source(place: Path, tmp_path: Path) -> None:
    run = tmp_path / "RUN"
    shutil.copytree(place / "RUN", run)  # tiny_network.py is not there
    process = start(tmp_path, "export", "RUN", "--format", "onnx")
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "takes any batch" in out and "verified by ONNX Runtime" in out and "latency: " in out
    known = {p.key: p.value for p in onnx.load(run / "model.onnx").metadata_props}
    assert known["msprune.plan"] == digest_file(run / "plan.json")
    assert known["msprune.model"] == "tiny_network:make"
    assert json.loads(known["msprune.inputs"]) == {"x": "float32 [1, 3, 16, 16]"}
    session = ort.InferenceSession(run / "model.onnx", providers=["CPUExecutionProvider"])
    x = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        expected = pruner.load(run)(x).numpy()
    assert np.allclose(session.run(None, {"x": x.numpy()})[0], expected, atol=1e-4)


def test_what_is_there_is_not_written_again(here: Path, capsys) -> None:
    command = ["export", "RUN", "--format", "torchscript"]
    file = here / "RUN" / "model.torchscript.pt"
    assert main(command) == 0
    said = capsys.readouterr().out
    written = file.stat().st_mtime_ns
    assert main(command) == 0
    again = capsys.readouterr().out
    assert again.startswith(said.rstrip()) and "it is there already" in again
    assert file.stat().st_mtime_ns == written
    shutil.move(here / "RUN", here / "moved")
    assert main(["export", "moved", "--format", "torchscript"]) == 0
    assert "it is there already" in capsys.readouterr().out
    with open(here / "moved" / file.name, "ab") as stream:
        stream.write(b"damaged")
    assert main(["export", "moved", "--format", "torchscript"]) == 0
    assert "it is there already" not in capsys.readouterr().out
    assert RunFolder("moved").read_state()["steps"]["export torchscript fp32"]["digests"] == {
        file.name: digest_file(here / "moved" / file.name)
    }


def test_another_network_is_written_anew(here: Path, capsys) -> None:
    assert main(["export", "RUN", "--format", "pt2", "--out", "other/a.pt2"]) == 0
    before = digest_file(here / "other" / "a.pt2")
    small, folder = pruner.load("RUN"), RunFolder("RUN")
    with torch.no_grad():
        small.head.bias += 1
    folder.commit("finetune", "key", lambda scratch: pruner.save(small, None, scratch))
    assert main(["export", "RUN", "--format", "pt2", "--out", "other/a.pt2"]) == 0
    assert "already" not in capsys.readouterr().out
    assert digest_file(here / "other" / "a.pt2") != before


def test_int8_is_judged_beside_fp32(here: Path, capsys) -> None:
    command = ["export", "RUN", "--format", "onnx", "--precision", "int8", "--data", "data"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "accuracy: " in out and "in turn with it fp32" in out and "model-int8.onnx" in out
    data = RunFolder("RUN").read_state()["steps"]["export onnx int8"]["data"]
    assert data["relative_difference"] > 0 and 0 <= data["accuracy"] <= 1
    session = ort.InferenceSession("RUN/model-int8.onnx", providers=["CPUExecutionProvider"])
    images, right = here / "data" / "test", []
    for label, name in enumerate(("blue", "green", "red")):
        x = torch.stack([read_image(path) for path in sorted((images / name).iterdir())])
        answers = session.run(None, {"x": x.numpy()})[0].argmax(1)
        right.extend(answers == label)
    assert data["accuracy"] == pytest.approx(np.mean(right), abs=1.01 / 24)
    assert data["fp32"]["latency_ms"] > 0 and data["fp32"]["size_bytes"] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("RUN", "--format", "onxx"), "got 'onxx': did you mean onnx?"),
        (("RUN", "--format", "pt2", "--precision", "int8"), "pt2 is written in fp32, fp16, not"),
        (("RUN", "--format", "pt2", "--precision", "fp8"), "pt2 is written in fp32, fp16, not"),
        (("RUN", "--format", "pt2", "--out", "data/train/red/0.png/a.pt2"), "cannot be written"),
        (("RUN", "--format", "pt2", "--out", "a.onnx"), "ends in .pt2, not a.onnx"),
        (("nowhere", "--format", "pt2"), "nowhere holds no run"),
        (("unsolved", "--format", "pt2"), "unsolved holds no plan: msprune solve unsolved"),
        (("damaged", "--format", "pt2"), "model.safetensors is truncated or was edited"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(here: Path, capsys, arguments, said) -> None:
    if arguments[0] in ("unsolved", "damaged"):
        shutil.copytree("RUN", arguments[0])
    if arguments[0] == "unsolved":
        folder = RunFolder("unsolved")
        state = folder.read_state()
        del state["steps"]["solve"]
        folder.write_state(state)
    if arguments[0] == "damaged":
        os.truncate("damaged/model.safetensors", 1000)
    assert main(["export", *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error and error.count("\n") == 0
    assert not list(here.rglob("*.pt2"))


def test_int8_without_data(here: Path, capsys) -> None:
    folder = RunFolder("RUN")
    state = folder.read_state()
    state["config"]["data"] = None
    folder.write_state(state)
    assert main(["export", "RUN", "--format", "onnx", "--precision", "int8"]) == 2
    assert "int8 needs calibration samples: give --data" in capsys.readouterr().err


def test_from_python(here: Path) -> None:
    outcome = pruner.export("RUN", "pt2")
    assert outcome.data["file"] == "RUN/model.pt2" and outcome.data["batch"] is None
    assert outcome.data["difference"] <= 1e-4 and str(outcome).startswith("pt2 fp32: ")
    small = pruner.load("RUN")
    x = torch.randn(1, 3, 16, 16)
    again = pruner.export(small, "pt2", "own.pt2", inputs=(x,))
    assert again.data["difference"] == outcome.data["difference"]
    pruner.save(small, None, here / "alone")
    assert pruner.export("alone", "torchscript", "alone.pt", inputs=(x,)).data["size_bytes"] > 0
    with pytest.raises(pruner.PrunerError, match="give inputs"):
        pruner.export(small, "pt2", "own.pt2")
    with pytest.raises(pruner.PrunerError, match="give out"):
        pruner.export(small, "pt2", inputs=(x,))
