"""The command line as a user meets it: a run of every verb, and one clear line for bad input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import pruner
from pruner.run.cli import (
    FINETUNE_OPTIONS,
    MEASURE_OPTIONS,
    MODEL_OPTIONS,
    SOLVE_OPTIONS,
    main,
)
from pruner.run.config import Config
from pruner.run.run_folder import RunFolder
from pruner.run.schema import schema_text

from ..runs import MODEL, contents, enter_copy, prepare


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny network, its images, and a RUN that was measured and solved."""
    folder = prepare(tmp_path_factory.mktemp("cli"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["measure", MODEL, "--out", "done", "--probes", "5", "--quick"]) == 0
        assert main(["solve", "done", "--budget", "60%", "--data", "data", "--no-check"]) == 0
    return folder


@pytest.fixture
def here(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it as the current folder."""
    return enter_copy(place, tmp_path / "here", monkeypatch)


@pytest.mark.parametrize(
    ("verb", "options", "said"),
    [
        ("inspect", MODEL_OPTIONS, "(default 0)"),
        ("measure", MEASURE_OPTIONS, "(default onnxruntime)"),
        ("solve", SOLVE_OPTIONS, "do not measure the chosen structure"),
        ("finetune", FINETUNE_OPTIONS, "(default as RUN's configuration)"),
    ],
)
def test_options_say_what_their_entries_say(verb: str, options, said: str, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0 and said in text
    schema = json.loads(schema_text())
    parts = {"": schema, **{n[:-6].lower(): part for n, part in schema["$defs"].items()}}
    for flag, entry in options.items():
        section, _, name = entry.rpartition(".")
        assert f"{flag} " in text
        assert parts[section]["properties"][name]["description"] in text


def test_inspect_tells_the_structure(here: Path, capsys) -> None:
    assert main(["inspect", MODEL]) == 0
    out = capsys.readouterr().out
    assert "conv1" in out and "1 block: removable branches" in out
    assert "frozen" in out and "can go" in out


def test_every_step_after_another(here: Path, capsys) -> None:
    assert main(["finetune", "done", "--epochs", "1", "--batch", "12", "--repair", "24"]) == 0
    assert "after fine-tuning" in capsys.readouterr().out
    assert main(["bench", "done", "--runs", "5"]) == 0
    assert "runs in turn" in capsys.readouterr().out
    assert main(["report", "done"]) == 0
    metrics = json.loads((here / "done" / "metrics.json").read_text())
    assert metrics["pruned"]["latency_ms"] > 0 and metrics["dense"]["latency_ms"] > 0
    assert metrics["budget_ms"] == pytest.approx(0.6 * metrics["dense"]["latency_ms"])
    assert metrics["solver"]["status"] == "optimal" and metrics["solver"]["gap"] == 0
    for side, name in (
        ("dense", "accuracy"),
        ("pruned", "accuracy"),
        ("pruned", "accuracy_before_finetune"),
    ):
        assert 0 <= metrics[side][name] <= 1
    assert metrics["pruned"]["predicted_ms"] <= metrics["solver"]["budget_ms"]
    small = pruner.load(here / "done")
    assert sum(p.numel() for p in small.parameters()) == metrics["pruned"]["parameters"]
    expected = {
        "run.json",
        "latency.parquet",
        "latency.json",
        "importance.safetensors",
        "plan.json",
        "model.safetensors",
        "metrics.json",
        "report.html",
    }
    assert expected <= {path.name for path in (here / "done").iterdir()}


def test_a_finished_step_is_not_done_again(here: Path, capsys) -> None:
    before = contents(here / "done")
    assert main(["measure", MODEL, "--out", "done", "--probes", "5", "--quick"]) == 0
    assert main(["solve", "done", "--budget", "60%", "--no-check"]) == 0
    assert contents(here / "done") == before


def test_measuring_again_keeps_what_is_not_said_again(here: Path) -> None:
    folder = RunFolder("done")
    state = folder.read_state()
    state["config"]["rounds"] |= {"count": 2, "epochs": 3}
    state["config"]["target_data"] = str(here / "other")
    folder.write_state(state)
    assert main(["measure", MODEL, "--out", "done", "--probes", "5", "--quick"]) == 0
    assert folder.read_state()["config"] == state["config"]


BAD = {
    "no verb": ([], "COMMAND"),
    "unknown verb": (["prune"], "invalid choice"),
    "no MODEL form": (["measure", "tiny", "--out", "new"], "expected timm:NAME"),
    "unknown module": (["measure", "tinny:make", "--out", "new"], "no module 'tinny'"),
    "unknown factory": (["measure", "tiny_network:mak", "--out", "new"], "tiny_network:make"),
    "unknown engine": (["measure", MODEL, "--out", "new", "--engine", "tflite"], "known: onnxrun"),
    "no threads": (["measure", MODEL, "--out", "new", "--threads", "0"], "at least 1"),
    "odd shape": (["measure", MODEL, "--out", "new", "--input", "large"], "1x3x224x224"),
    "wrong shape": (["measure", MODEL, "--out", "new", "--input", "1x4x16x16"], "does not take"),
    "absent weights": (["measure", MODEL, "--out", "new", "--weights", "w.pth"], "no weights file"),
    "odd argument": (["measure", MODEL, "--out", "new", "--arg", "x"], "NAME=VALUE"),
    "wrong argument": (["measure", MODEL, "--out", "new", "--arg", "x=1"], "building MODEL"),
    "another model's RUN": (["measure", "demo:resnet20", "--out", "done"], "use another RUN"),
    "other weights": (["measure", MODEL, "--out", "done", "--seed", "3"], "use another RUN"),
    "another input": (["measure", MODEL, "--out", "done", "--input", "2x3x16x16"], "2x3x16x16"),
    "another setting": (["measure", MODEL, "--out", "done", "--threads", "2"], "threads is 1"),
    "RUN is a file": (["measure", MODEL, "--out", "tiny_network.py"], "is a file"),
    "no RUN": (["solve", "nothing", "--budget", "50%"], "holds no run"),
    "malformed budget": (["solve", "done", "--budget", "half"], "cannot read budget 'half'"),
    "below the minimum": (["solve", "done", "--budget", "0.0001ms"], "reachable minimum"),
    "above dense": (["solve", "done", "--budget", "100000ms"], "above the dense network's"),
    "odd margin": (["solve", "done", "--budget", "50%", "--margin", "x"], "solve.margin"),
    "unknown criterion": (
        ["solve", "done", "--budget", "50%", "--criterion", "tailor"],
        "did you mean 'taylor'",
    ),
    "no images": (["solve", "done", "--budget", "50%", "--data", "nowhere"], "no such data folder"),
    "no classes": (["solve", "done", "--budget", "50%", "--data", "done"], "no train folder"),
    "negative epochs": (["finetune", "done", "--epochs", "-1"], "0 or more"),
    "no rate": (["finetune", "done", "--epochs", "1", "--lr", "0"], "finetune.lr"),
    "no runs": (["bench", "done", "--runs", "0"], "at least 1"),
    "absent configuration": (["run", "no.yaml"], "no configuration file"),
    "report of nothing": (["report", "nothing"], "holds no run"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_bad_input_is_one_line_and_leaves_everything(case: str, here: Path, capsys) -> None:
    arguments, words = BAD[case]
    before = contents(here)
    try:
        code = main(arguments)
    except SystemExit as stop:  # argparse
        code = int(str(stop.code))
    captured = capsys.readouterr()
    assert code == 2
    said = [line for line in captured.err.splitlines() if line.startswith("msprune")]
    assert len(said) == 1 and words in said[0]
    assert "Traceback" not in captured.err and captured.out == ""
    after = contents(here)
    after.pop("done/.lock", None)
    before.pop("done/.lock", None)
    assert {k: v for k, v in after.items() if "__pycache__" not in k} == {
        k: v for k, v in before.items() if "__pycache__" not in k
    }


def test_wrong_number_of_classes(here: Path, capsys) -> None:
    shutil.copytree(here / "data" / "train" / "red", here / "data" / "train" / "violet")
    assert main(["solve", "done", "--budget", "50%", "--data", "data"]) == 2
    assert "4 class folders" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "verb"),
    [
        ("latency.parquet", ["solve", "done", "--budget", "50%"]),
        ("latency.json", ["solve", "done", "--budget", "50%"]),
        ("importance.safetensors", ["solve", "done", "--budget", "50%"]),
        ("run.json", ["solve", "done", "--budget", "50%"]),
        ("plan.json", ["finetune", "done", "--epochs", "1"]),
        ("metrics.json", ["report", "done"]),
        ("model.safetensors", ["bench", "done"]),
    ],
)
@pytest.mark.parametrize("damage", ["cut", "edited"])
def test_damaged_files_are_named(
    name: str, verb: list[str], damage: str, here: Path, capsys
) -> None:
    path = here / "done" / name
    content = path.read_bytes()
    # Another last digit may be the same number.
    middle = next(
        k for k in range(len(content) // 2, len(content)) if content[k] not in b"0123456789"
    )
    changed = bytes([content[middle] ^ 1]) + content[middle + 1 :]
    path.write_bytes(content[:middle] + (changed if damage == "edited" else b""))
    assert main(verb) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert name.split(".")[0] in said


def test_untraceable_input_is_said(here: Path, capsys) -> None:
    source = "from torch import nn\ndef make():\n    return nn.Conv2d(3, 8, 1)\n"
    (here / "odd.py").write_text(source)
    assert main(["measure", "odd:make", "--out", "new"]) == 2
    assert "give --input" in capsys.readouterr().err
    assert not (here / "new").exists()


def test_a_configuration_ends_before_the_tuning_and_finetune_goes_on(here: Path, capsys) -> None:
    lines = [
        f"model: {MODEL}", "data: data", "out: two", "budgets: [70%, 50%]",
        "measure: {probes: 5, quick: true}", "solve: {check: false}",
        "finetune: {epochs: 2, batch: 12}",
    ]  # fmt: skip
    (here / "run.yaml").write_text("\n".join(lines))
    assert main(["run", "run.yaml", "--until", "measure"]) == 0
    assert (here / "two" / "latency.parquet").is_file() and not (here / "two" / "50").exists()
    assert main(["run", "run.yaml", "--until", "solve"]) == 0
    metrics = json.loads((here / "two" / "50" / "metrics.json").read_text())
    assert metrics["pruned"]["accuracy"] is None
    assert main(["finetune", "two/50"]) == 0
    metrics = json.loads((here / "two" / "50" / "metrics.json").read_text())
    assert 0 <= metrics["pruned"]["accuracy"] <= 1 and "2 epochs" in metrics["finetune"]
    capsys.readouterr()
    assert main(["finetune", "done", "--data", "data"]) == 2
    assert "give --epochs N" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[3] / "examples").glob("*.yaml")))
def test_the_examples_are_configurations(path: Path) -> None:
    config = Config.from_yaml(path)
    assert config.out == f"runs/{path.stem}" and len(config.budgets) == 3
