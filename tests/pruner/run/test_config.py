"""Configuration: what is accepted, what is refused and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from pruner.errors import PrunerError
from pruner.run.config import Config, parse_shape

TEXT = """
model: pruner.demo.resnet:resnet56
input: 1x3x32x32
data: data/cifar10
budgets: [70%, 50 %, 12.5ms]
measure: {threads: 2}
solve: {margin: auto}
finetune: {epochs: 3, lr: 1e-2}
"""


def test_yaml_resolves_and_survives_a_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(TEXT)
    config = Config.from_yaml(path)
    assert config.input == (1, 3, 32, 32)
    assert tuple(map(str, config.budgets)) == ("70%", "50%", "12.5ms")
    assert config.measure.threads == 2 and config.measure.engine == "onnxruntime"
    assert config.solve.margin == "auto"
    assert config.finetune.lr == pytest.approx(0.01)  # YAML reads 1e-2 as text
    assert Config.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "model is missing"),
        ([1], "expected names and values"),
        ({"model": 3}, "model: expected a text, got 3"),
        ({"model": "m", "modle": 1}, "unknown entry modle: did you mean model"),
        ({"model": "m", "finetune": {"epoch": 1}}, r"finetune.epoch: did you mean epochs"),
        ({"model": "m", "finetune": {"epochs": "many"}}, "epochs: expected a whole number"),
        ({"model": "m", "finetune": {"epochs": True}}, "epochs: expected a whole number"),
        ({"model": "m", "finetune": {"epochs": -1}}, "epochs: expected 0 or more"),
        ({"model": "m", "solve": {"margin": "much"}}, "margin: expected a number or auto"),
        ({"model": "m", "solve": {"margin": 2}}, "margin: expected a share"),
        ({"model": "m", "measure": {"threads": 0}}, "threads: expected at least 1"),
        ({"model": "m", "budgets": ["half"]}, "cannot read budget 'half'"),
        ({"model": "m", "budgets": ["50%", "50.0%"]}, "each one once"),
        ({"model": "m", "budget": "50%", "budgets": ["40%"]}, "budget or budgets"),
        ({"model": "m", "input": "1x3xlarge"}, "a shape like 1x3x224x224"),
        ({"model": "m", "input": [0, 3]}, "batch x channels"),
    ],
)
def test_refusals_name_the_entry(content, words: str) -> None:
    with pytest.raises(PrunerError, match=words):
        Config.from_dict(content)


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(PrunerError, match="no configuration file"):
        Config.from_yaml(tmp_path / "absent.yaml")
    path = tmp_path / "bad.yaml"
    path.write_text("a: [1")
    with pytest.raises(PrunerError, match="not YAML") as error:
        Config.from_yaml(path)
    assert "\n" not in str(error.value)


def test_shape() -> None:
    assert parse_shape("8x3x224X224") == (8, 3, 224, 224)
