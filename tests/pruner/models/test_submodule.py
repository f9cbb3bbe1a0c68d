"""A part of a model: pruned by itself, and put back in its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import pruner
from pruner.errors import PrunerError
from pruner.models.example_inputs import Example
from pruner.models.load import load_model
from pruner.models.submodule import capture_arguments
from pruner.run.cli import main
from pruner.surgery.verify import silence_removed

from ..networks import Residual, shake


class Outer(nn.Module):
    """Calls its part by name, twice, with what no exporter can follow around it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Residual()
        self.body.classes = 5
        self.same = self.body
        self.unused = nn.Linear(2, 2)

    def forward(self, images: list[Tensor]) -> dict[str, Tensor]:
        batch = torch.stack([image * 2 for image in images])
        scores = self.body(x=batch)
        if scores.sum() > 0:  # follows the data
            scores = scores + self.same(batch)
        assert scores.shape[1] == self.body.classes
        return {"scores": scores}


@pytest.fixture
def outer() -> Outer:
    torch.manual_seed(0)
    model = Outer()
    shake(model)
    return model


def images(count: int = 2) -> Example:
    return Example(([torch.randn(3, 8, 8) for _ in range(count)],))


def test_the_part_is_called_as_the_model_calls_it(outer: Outer) -> None:
    example = images()
    found = capture_arguments(outer, "body", example)
    assert found.args == () and set(found.kwargs) == {"x"}
    assert torch.equal(found.kwargs["x"], torch.stack(example.args[0]) * 2)
    assert not outer.body._forward_pre_hooks


def test_a_pruned_part_is_put_back_wherever_it_stood(outer: Outer) -> None:
    example = images(3)
    inner = capture_arguments(outer, "body", example)
    net = pruner.trace(outer.body, inner.args, inner.kwargs, step=1)
    plan = pruner.Plan.random(net, macs=0.5, seed=0)
    whole = pruner.splice(outer, "body", pruner.apply(net, plan))
    # The oracle: the dense model with the removed channels of its part silenced.
    masked = pruner.splice(outer, "body", silence_removed(outer.body, net, plan).eval())
    got, expected = whole(*example.args)["scores"], masked(*example.args)["scores"]
    assert torch.allclose(got, expected, atol=1e-5)
    assert whole.same is whole.body and isinstance(outer.body, Residual)
    assert sum(p.numel() for p in whole.parameters()) < sum(p.numel() for p in outer.parameters())


@pytest.mark.parametrize(
    ("path", "words"),
    [("bdy", "did you mean body"), ("", "it has body"), ("unused", "never calls 'unused'")],
)
def test_what_is_no_part_is_said(outer: Outer, path: str, words: str) -> None:
    with pytest.raises(PrunerError, match=words):
        capture_arguments(outer, path, images())


SMALL = ["--arg", "num_classes=4", "--arg", "fixed_size=[64,64]"]
NAME = "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn"


def test_a_detectors_backbone_by_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    pytest.importorskip("torchvision")
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", NAME, *SMALL]) == 2
    assert "--submodule" in capsys.readouterr().err
    part = ["--submodule", "backbone"]
    assert main(["inspect", NAME, *SMALL, *part]) == 0
    assert "its backbone" in capsys.readouterr().out
    measure = ["measure", NAME, *SMALL, "--out", "RUN", "--quick", "--probes", "3"]
    assert main([*measure, *part]) == 0
    assert main(measure) == 2
    assert "--submodule" in capsys.readouterr().err
    solve = ["solve", "RUN", "--budget", "70%", "--no-check"]
    assert main([*solve, "--data", "images"]) == 2
    assert "--task" in capsys.readouterr().err  # a detector is no classifier
    assert main([*solve, "--criterion", "magnitude"]) == 0
    assert "pruner.load('RUN'), the whole model with backbone pruned" in capsys.readouterr().out
    assert main(["bench", "RUN", "--runs", "3"]) == 0
    assert main(["finetune", "RUN", "--epochs", "1", "--data", "images"]) == 2
    assert main(["report", "RUN"]) == 0
    metrics = json.loads((tmp_path / "RUN" / "metrics.json").read_text())
    assert metrics["submodule"] == "backbone"
    dense = load_model(NAME, arguments={"num_classes": 4, "fixed_size": [64, 64]})
    whole = pruner.splice(dense.module, "backbone", pruner.load("RUN"))
    with torch.no_grad():
        found = whole([torch.rand(3, 64, 64), torch.rand(3, 90, 50)])
    assert [set(one) for one in found] == [{"boxes", "labels", "scores"}] * 2
