"""``hf:`` models: classes and local folders, and the whole way of one with several inputs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch.utils import _pytree as pytree

import pruner
from pruner.errors import PrunerError
from pruner.graph.onnx.export import to_onnx
from pruner.models.load import load_model
from pruner.run.cli import main
from pruner.tasks.class_scores import extract_scores
from pruner.tuning.evaluate import evaluate

from ..runs import prepare

transformers = pytest.importorskip("transformers")

TINY = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "image_size": 16, "patch_size": 8,
}  # fmt: skip
TEXT = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "vocab_size": 100, "max_position_embeddings": 12, "eos_token_id": 99, "bos_token_id": 98,
}  # fmt: skip
CLIP = {"text_config": TEXT, "vision_config": TINY, "projection_dim": 24}


@pytest.mark.parametrize(
    ("name", "kind"),
    [("ViTModel", "ViTModel"), ("ViT", "ViTModel"), ("vit", "ViTModel"),
     ("ViTForImageClassification", "ViTForImageClassification")],
)  # fmt: skip
def test_a_class_or_an_architecture_by_its_name(name: str, kind: str) -> None:
    model = load_model(f"hf:{name}", arguments=TINY)
    assert type(model.module).__name__ == kind and model.weights is None
    assert model.preset.input_size == (3, 16, 16) and model.preset.mean == (0.5, 0.5, 0.5)
    example = model.example((2, 3, 16, 16))
    assert example.args == () and set(example.kwargs) == {"pixel_values"}
    assert model.digest == load_model(f"hf:{name}", arguments=TINY).digest


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("hf:ViTModle", {}, "did you mean hf:ViTModel"),
        ("hf:ViTModel", {"hiden_size": 3}, "ViTConfig has no hiden_size"),
        ("hf:google/vit-base", {}, "nothing is downloaded"),
        ("hf:./absent", {}, "no folder with a config.json"),
        ("hf:WhisperModel", {}, "takes input_features"),
    ],
)
def test_what_is_no_model_is_said(name: str, arguments: dict[str, int], words: str) -> None:
    with pytest.raises(PrunerError, match=words):
        load_model(name, arguments=arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of three classes with its configuration and its preparation of images."""
    place = tmp_path_factory.mktemp("hf") / "classifier"
    torch.manual_seed(0)
    config = transformers.ViTConfig(**TINY, num_labels=3)
    transformers.ViTForImageClassification(config).half().save_pretrained(place)
    told = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "resample": 3}
    (place / "preprocessor_config.json").write_text(json.dumps(told))
    return place


def test_a_local_folder(folder: Path) -> None:
    model = load_model(f"hf:{folder}")
    original = transformers.ViTForImageClassification.from_pretrained(folder).float().state_dict()
    state = model.module.state_dict()
    assert model.weights == str(folder) and set(state) == set(original)
    assert all(v.dtype == torch.float32 and torch.equal(v, original[k]) for k, v in state.items())
    assert model.preset.mean == (0.1, 0.2, 0.3) and model.preset.interpolation == "bicubic"


def test_a_folder_without_safetensors_or_without_a_part_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    torch.save(load_file(folder / "model.safetensors"), tmp_path / "pytorch_model.bin")
    with pytest.raises(PrunerError, match="safetensors"):
        load_model(f"hf:{tmp_path}")
    state = load_file(folder / "model.safetensors")
    del state["classifier.bias"]
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(PrunerError, match=r"lack classifier\.bias"):
        load_model(f"hf:{tmp_path}")


def test_two_towers_the_whole_way(tmp_path: Path) -> None:
    """Text and image in one problem, cut, saved, loaded, also where the library is not there."""
    model = load_model("hf:CLIPModel", arguments=CLIP)
    example = model.example((2, *(model.preset.input_size or ())))
    shapes = {name: tuple(value.shape) for name, value in example.kwargs.items()}
    assert shapes == {
        "input_ids": (2, 12), "pixel_values": (2, 3, 16, 16), "attention_mask": (2, 12)
    }  # fmt: skip
    net = pruner.trace(model.module, example.args, example.kwargs)
    cut = {slot.tensor.split(".")[0] for dim in net.dims.values() for slot in dim.slots}
    assert {"text_model", "vision_model"} <= cut and net.fixed_batch is None
    plan = pruner.Plan.random(net, macs=0.5, seed=0)
    assert pruner.verify(model.module, net, plan) < 1e-4
    small = pruner.apply(net, plan)
    pruner.save(small, plan, tmp_path)
    expected, got = small(**example.kwargs), pruner.load(tmp_path)(**example.kwargs)
    assert type(got) is type(expected) is type(model.module(**example.kwargs))
    assert torch.equal(got.logits_per_image, expected.logits_per_image)
    onnx = to_onnx(small, example.args, example.kwargs)
    session = onnxruntime.InferenceSession(onnx.SerializeToString())
    results = session.run(None, {k: v.numpy() for k, v in example.kwargs.items()})
    for mine, theirs in zip(results, pytree.tree_leaves(expected), strict=True):
        assert torch.allclose(torch.from_numpy(mine), theirs, atol=1e-4)
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        "import torch, pruner\n"
        "ids = torch.ones(1, 12, dtype=torch.long)\n"
        "out = pruner.load(sys.argv[1])(input_ids=ids, pixel_values=torch.zeros(1, 3, 16, 16),"
        " attention_mask=ids)\n"
        "assert out.logits_per_image.shape == out['logits_per_image'].shape == (1, 1)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "not installed" in done.stderr, done.stderr


def test_a_classifier_from_a_folder_runs_through_every_step(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    prepare(tmp_path)
    (tmp_path / "model").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    assert main(["measure", "hf:./model", "--out", "RUN", "--quick", "--probes", "4"]) == 0
    # A later step may be called from elsewhere.
    monkeypatch.chdir(tmp_path / "RUN")
    solve = ["solve", ".", "--budget", "70%", "--data", "../data", "--no-check"]
    assert main(solve) == 0
    assert main(["finetune", ".", "--epochs", "1", "--batch", "24"]) == 0
    assert "after fine-tuning" in capsys.readouterr().out
    small = pruner.load(".")
    pixels = torch.zeros(2, 3, 16, 16)
    assert type(small(pixel_values=pixels)).__name__ == "ImageClassifierOutput"
    found = evaluate(small, [(pixels, torch.tensor([0, 1]))])
    assert found.loss == pytest.approx(
        float(torch.nn.functional.cross_entropy(small(pixels).logits, torch.tensor([0, 1]))), 1e-5
    )


def test_results_without_class_scores_are_said() -> None:
    tensor = torch.zeros(2, 3)
    assert (
        extract_scores(tensor) is tensor and extract_scores({"logits": tensor, "more": 1}) is tensor
    )
    with pytest.raises(PrunerError, match="a dict with boxes, not class scores"):
        extract_scores({"boxes": tensor})
    with pytest.raises(PrunerError, match="a tuple, not"):
        extract_scores((tensor, tensor))
