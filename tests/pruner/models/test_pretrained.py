"""Published weights: read from the libraries' own caches, which the tests fill."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pruner.errors import PrunerError
from pruner.models.load import digest, load_model
from pruner.models.pretrained import fetch_torchvision_weights


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches of torch and of the Hugging Face hub, without a network."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "torch"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def fill_hub(hub: Path, repository: str, **files: object) -> Path:
    """Put a repository into the hub's cache, as a download does; returns its folder."""
    top = hub / f"models--{repository.replace('/', '--')}"
    folder = top / "snapshots" / ("0" * 40)
    folder.mkdir(parents=True)
    (top / "refs").mkdir()
    (top / "refs" / "main").write_text("0" * 40)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_torchvision_reads_the_file_of_its_tag(caches: Path) -> None:
    pytest.importorskip("torchvision")
    published = load_model("torchvision:squeezenet1_1", seed=3).module
    folder = caches / "torch" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(published.state_dict(), folder / "squeezenet1_1-b8a52dc0.pth")
    for name in ("torchvision:squeezenet1_1", "torchvision:squeezenet1_1.IMAGENET1K_V1"):
        model = load_model(name, pretrained=True)
        assert model.digest == digest(published)
        assert model.weights == "pretrained"


def test_preprocessing_follows_the_tag() -> None:
    models = pytest.importorskip("torchvision.models")
    for entry in models.get_model_weights("regnet_y_400mf"):
        view = entry.transforms()
        preset = load_model(f"torchvision:regnet_y_400mf.{entry.name}").preset
        assert preset.crop == view.crop_size[0] / view.resize_size[0]


def test_a_file_with_code_in_torchs_cache_is_refused(caches: Path) -> None:
    pytest.importorskip("torchvision")
    folder = caches / "torch" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save({"weight": Path}, folder / "squeezenet1_1-b8a52dc0.pth")
    with pytest.raises(PrunerError, match="squeezenet1_1-b8a52dc0"):
        load_model("torchvision:squeezenet1_1", pretrained=True)


@pytest.mark.parametrize(
    ("name", "prefix"), [("net-0676ba61.pth", "0676ba61"), ("net_qnnpack_37f702c5.pth", None)]
)
def test_a_download_is_held_to_the_hash_that_its_name_has(
    caches: Path, monkeypatch, name: str, prefix: str | None
) -> None:
    def download(url: str, path: str, hash_prefix: str | None, **_: object) -> None:
        assert hash_prefix == prefix
        torch.save({"weight": torch.ones(1)}, path)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    path = fetch_torchvision_weights("torchvision:net", f"https://example.org/{name}")
    assert path.name == name and path.is_file()


def test_timm_reads_the_hubs_cache(caches: Path) -> None:
    timm = pytest.importorskip("timm")
    module = timm.create_model("mobilenetv3_small_050")
    folder = fill_hub(caches / "hub", "timm/mobilenetv3_small_050.lamb_in1k")
    save_file(module.state_dict(), folder / "model.safetensors")
    for name in ("timm:mobilenetv3_small_050", "timm:mobilenetv3_small_050.lamb_in1k"):
        assert load_model(name, pretrained=True).digest == digest(module)
    ten = load_model("timm:mobilenetv3_small_050", pretrained=True, arguments={"num_classes": 10})
    assert ten.module.classifier.out_features == 10  # type: ignore[union-attr]


def test_a_repository_of_the_hub_is_its_folder(caches: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        image_size=32, patch_size=8, num_labels=3,
    )  # fmt: skip
    module = transformers.ViTForImageClassification(config)
    content = {**config.to_dict(), "architectures": ["ViTForImageClassification"]}
    folder = fill_hub(caches / "hub", "someone/vit", config=content)
    save_file(module.state_dict(), folder / "model.safetensors")
    model = load_model("hf:someone/vit", pretrained=True)
    assert (model.name, model.weights) == ("hf:someone/vit", "pretrained")
    assert model.folder == str(folder)  # where its tokenizer would lie
    assert model.digest == digest(module)
    assert model.preset.input_size == (3, 32, 32)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("torchvision:squeezenet1_1", "fetch https://.*squeezenet1_1-b8a52dc0.pth and put it into"),
        ("timm:mobilenetv3_small_050", "hf download timm/mobilenetv3_small_050"),
        ("hf:someone/else", "hf download someone/else"),
    ],
)
def test_what_is_missing_offline_is_said(caches: Path, monkeypatch, name: str, said: str) -> None:
    pytest.importorskip("timm")
    pytest.importorskip("transformers")

    def refuse(*_: object, **__: object) -> None:
        raise OSError("there is no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("torch.hub.urlopen", refuse)
    with pytest.raises(PrunerError, match=said):
        load_model(name, pretrained=True)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("torchvision:squeezenet1_1.IMAGENET1K_V7", "did you mean .*IMAGENET1K_V1"),
        ("timm:mobilenetv3_small_050.other", "it has mobilenetv3_small_050.lamb_in1k"),
        ("timm:test_vit.other", "it has test_vit.r160_in1k"),
        ("hf:ViTModel", "name a repository"),
        ("demo:resnet20", "no published weights"),
        ("pruner.demo.resnet:resnet20", "no published weights"),
    ],
)
def test_what_has_no_published_weights_is_refused(name: str, said: str) -> None:
    pytest.importorskip("timm")
    pytest.importorskip("transformers")
    with pytest.raises(PrunerError, match=said):
        load_model(name, pretrained=True)


def test_weights_of_two_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PrunerError, match="give one of the two"):
        load_model("timm:resnet18", tmp_path / "weights.pth", pretrained=True)
