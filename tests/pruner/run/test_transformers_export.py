"""Pruned networks as transformers' own classes load them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import pruner
from pruner import PrunerError
from pruner.run.cli import main
from pruner.run.export_stage import export
from pruner.run.transformers_export import write_folder

from ..runs import ROOT, prepare, restore_run

transformers = pytest.importorskip("transformers")

SETTINGS = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "image_size": 32, "patch_size": 8, "id2label": {0: "cat", 1: "dog", 2: "cow"},
}  # fmt: skip


@pytest.fixture(scope="module")
def cut() -> torch.fx.GraphModule:
    torch.manual_seed(0)
    model = transformers.ViTForImageClassification(transformers.ViTConfig(**SETTINGS)).eval()
    net = pruner.trace(model, (), {"pixel_values": images()})
    return pruner.apply(net, pruner.Plan.random(net, macs=0.6, seed=0))


def images(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def write(cut: torch.fx.GraphModule, folder: Path) -> Path:
    write_folder(cut, folder, transformers.ViTConfig(**SETTINGS).to_dict())
    return folder


def test_any_auto_class_loads_it_with_its_own_results(cut, tmp_path) -> None:
    folder, x = write(cut, tmp_path / "small"), images(3)
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    for kind in (transformers.AutoModel, transformers.AutoModelForImageClassification):
        model = kind.from_pretrained(folder)
        with torch.no_grad():
            found, expected = model(pixel_values=x), cut(pixel_values=x)
        assert type(found) is type(expected) and torch.equal(found.logits, expected.logits)
        assert torch.equal(model(x, return_dict=True, labels=None).logits, found.logits)
        assert not model.training and model.main_input_name == "pixel_values"
    again, told = transformers.AutoModel.from_pretrained(
        folder, dtype="bfloat16", output_loading_info=True
    )
    assert again.dtype == torch.bfloat16 and not told["missing_keys"]
    model.load_state_dict(model.state_dict(), strict=True)


def test_what_is_tuned_is_saved_and_loads_again(cut, tmp_path) -> None:
    model = transformers.AutoModel.from_pretrained(write(cut, tmp_path / "small")).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(images()).logits.square().mean().backward()
    optimizer.step()
    model.eval().save_pretrained(tmp_path / "tuned")
    again = transformers.AutoModel.from_pretrained(tmp_path / "tuned")
    assert torch.equal(again(images()).logits, model(images()).logits)
    assert not torch.equal(again(images()).logits, cut(images()).logits)
    assert again.config.to_diff_dict() == model.config.to_diff_dict()
    assert again.config.id2label == SETTINGS["id2label"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"attention_mask": torch.ones(2)}, "takes pixel_values.*attention_mask is none of these"),
        ({"labels": torch.zeros(2)}, "labels is none of these"),
        ({"output_attentions": True}, "output_attentions is none of these"),
    ],
)
def test_other_arguments_are_refused(cut, tmp_path, given, said) -> None:
    model = transformers.AutoModel.from_pretrained(write(cut, tmp_path / "small"))
    with pytest.raises(PrunerError, match=said):
        model(pixel_values=images(), **given)
    with pytest.raises(PrunerError, match="pixel_values is missing"):
        model()


def test_values_that_it_was_traced_with_need_not_be_given(tmp_path) -> None:
    torch.manual_seed(0)
    model = transformers.ViTForImageClassification(transformers.ViTConfig(**SETTINGS)).eval()
    given = {"pixel_values": images(), "labels": None, "interpolate_pos_encoding": False}
    net = pruner.trace(model, (), given)
    small = pruner.apply(net, pruner.Plan.random(net, macs=0.6, seed=0))
    loaded = transformers.AutoModel.from_pretrained(write(small, tmp_path / "small"))
    expected = small(**given).logits
    assert torch.equal(loaded(pixel_values=images()).logits, expected)
    assert torch.equal(loaded(**given).logits, expected)
    with pytest.raises(PrunerError, match="traced with labels=None"):
        loaded(pixel_values=images(), labels=torch.zeros(2))


def test_what_cannot_be_followed_is_refused(cut, tmp_path) -> None:
    folder = write(cut, tmp_path / "small")
    with pytest.raises(PrunerError, match="device_map cannot be followed"):
        transformers.AutoModel.from_pretrained(folder, device_map={"network": "cpu"})
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    with pytest.raises(PrunerError, match="holds something else"):
        export(cut, "hf", other)
    assert (other / "thesis.txt").read_text() == "mine"
    with pytest.raises(PrunerError, match="written in fp32"):
        export(cut, "hf", tmp_path / "half", precision="fp16")
    (folder / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(PrunerError, match=r"model\.safetensors"):
        transformers.AutoModel.from_pretrained(folder)


def test_a_run_is_exported_and_loads_in_another_process(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(prepare(tmp_path))
    run = restore_run(tmp_path)
    assert main(["export", str(run), "--format", "hf"]) == 0
    said = capsys.readouterr().out
    assert "largest difference 0" in said and f'from_pretrained("{run / "hf"}")' in said
    assert json.loads((run / "hf" / "config.json").read_text())["model_type"] == "msprune"
    code = (
        "import sys, pruner\n"
        "assert 'transformers' not in sys.modules\n"
        "import transformers, torch\n"
        f"model = transformers.AutoModel.from_pretrained({str(run / 'hf')!r})\n"
        f"print(tuple(model(torch.zeros(2, 3, 16, 16)).shape))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "(2, 3)", done.stderr
