"""The commented configuration file: it says what was asked for, with and without its comments."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from pruner.errors import PrunerError
from pruner.run.cli import main
from pruner.run.config import Config
from pruner.run.config_template import init, write_template

CONFIGS = (
    {"model": "demo:resnet20"},
    {
        "model": "hf:./a folder: of mine", "out": "runs/a", "budgets": ["50%", "12ms"],
        "input": [1, 3, 32, 32], "arguments": {"depth": 3, "name": "yes"},
        "task": {"name": "segmentation", "classes": 3}, "finetune": {"lr": 1e-5, "epochs": 2},
        "solve": {"also": ["params=1.5M"], "min_width": {"stem*": 16}, "margin": "auto"},
    },
)  # fmt: skip


@pytest.mark.parametrize("content", CONFIGS)
def test_the_text_is_the_configuration_also_with_its_defaults(content: dict) -> None:
    config = Config.from_dict(content)
    text = write_template(config)
    assert Config.from_dict(yaml.safe_load(text)) == config
    everything = re.sub(r"^( *)#(?=\S)", r"\1", text, flags=re.MULTILINE)
    assert Config.from_dict(yaml.safe_load(everything)) == config
    assert yaml.safe_load(everything).keys() == config.to_dict().keys()
    assert max(map(len, text.splitlines())) <= 100


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("model: mine")
    with pytest.raises(PrunerError, match="is there already"):
        init(Config.from_dict(CONFIGS[0]), path)
    assert path.read_text() == "model: mine"


def test_set_sets_any_entry(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    changes = ["--set", "finetune.lr=0.5", "--set", "measure={threads: 2}", "--set", "seed=3"]
    assert main(["init", "demo:resnet20", "--seed", "1", *changes]) == 0
    config = Config.from_yaml("msprune.yaml")
    assert (config.finetune.lr, config.measure.threads, config.seed) == (0.5, 2, 3)
    assert tuple(map(str, config.budgets)) == ("70%", "50%")
    capsys.readouterr()
    for given, said in (
        ("finetune.lr", "--set: expected ENTRY=VALUE"),
        ("finetune.epoch=1", "unknown entry finetune.epoch: did you mean epochs"),
        ("seed=[", "--set: expected ENTRY=VALUE"),
        ("finetune.epochs=few", "finetune.epochs: expected a whole number, got 'few'"),
    ):
        assert main(["init", "demo:resnet20", "--file", "b.yaml", "--set", given]) == 2
        assert said in capsys.readouterr().err
    assert not Path("b.yaml").exists()
