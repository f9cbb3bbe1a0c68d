"""MODEL strings: what they build, and what is said of those that cannot be built."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pruner.demo import WEIGHTS
from pruner.demo.resnet import resnet20
from pruner.errors import PrunerError
from pruner.models.load import digest, load_model

RESNET20 = "pruner.demo.resnet:resnet20"


def test_demo_network_has_its_weights() -> None:
    model = load_model("demo:resnet20")
    same = load_model(RESNET20, WEIGHTS)
    assert model.digest == same.digest
    assert model.preset.input_size == (3, 32, 32)
    assert not model.module.training


def test_random_weights_follow_the_seed_and_disturb_nobody() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first, again, other = (load_model(RESNET20, seed=seed).digest for seed in (0, 0, 1))
    assert first == again != other
    assert torch.equal(torch.rand(3), expected)


def test_digest_sees_every_value() -> None:
    module = resnet20()
    before = digest(module)
    with torch.no_grad():
        module.linear.bias[3] += 1e-6
    assert digest(module) != before


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}])
def test_torch_files_with_and_without_wrapping(tmp_path: Path, wrap) -> None:
    module = resnet20()
    path = tmp_path / "weights.pth"
    torch.save(wrap({f"module.{k}": v for k, v in module.state_dict().items()}), path)
    assert load_model(RESNET20, path).digest == digest(module)


def test_factory_in_the_current_folder(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "my_network_file.py").write_text(
        "from torch import nn\n"
        "def make(width=4):\n"
        "    return nn.Sequential(nn.Conv2d(3, width, 1))\n"
    )
    monkeypatch.chdir(tmp_path)
    model = load_model("my_network_file:make", arguments={"width": 8})
    assert model.module[0].out_channels == 8  # type: ignore[index,union-attr]
    assert model.preset.input_size is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet18", "expected timm:NAME"),
        ("nowhere.at_all:f", "no module 'nowhere'"),
        ("pruner.demo.resnet:resnet21", "did you mean pruner.demo.resnet:resnet20"),
        ("pruner.demo.resnet:CifarResNet", "blocks"),
        ("pruner.demo.resnet:PREPROCESSING", "not a factory"),
        ("builtins:dict", "makes none"),
        ("demo:resnet56", "unknown MODEL"),
    ],
)
def test_unknown_models_are_named(name: str, words: str) -> None:
    with pytest.raises(PrunerError, match=words):
        load_model(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("torchvision:mobilenetv2", "did you mean torchvision:mobilenet_v2"),
        ("timm:resnte18", "did you mean timm:resnet18"),
    ],
)
def test_close_matches_in_the_zoos(name: str, words: str) -> None:
    pytest.importorskip(name.split(":")[0])
    with pytest.raises(PrunerError, match=words):
        load_model(name)


def test_torchvision_tells_its_input() -> None:
    pytest.importorskip("torchvision")
    preset = load_model("torchvision:mobilenet_v2").preset
    assert preset.input_size == (3, 224, 224)
    assert preset.crop == pytest.approx(0.875)


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    state = resnet20().state_dict()
    del state["bn1.bias"]
    state["extra"] = torch.zeros(1)
    state["linear.weight"] = torch.zeros(7, 64)
    path = tmp_path / "wrong.safetensors"
    save_file(state, path)
    with pytest.raises(PrunerError) as error:
        load_model(RESNET20, path)
    text = str(error.value)
    assert "missing bn1.bias" in text and "unexpected extra" in text
    assert "linear.weight is [7, 64] in the file and [10, 64] in the network" in text
    assert "\n" not in text


class Trap:
    """Unpickling this would run code."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('ran')",))


def test_no_pickle_is_run(tmp_path: Path) -> None:
    path = tmp_path / "trap.pth"
    torch.save({"conv1.weight": Trap()}, path)
    with pytest.raises(PrunerError, match="nothing but tensors"):
        load_model(RESNET20, path)


def test_damaged_and_absent_files(tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(WEIGHTS.read_bytes()[:5000])
    with pytest.raises(PrunerError, match="cannot read weights"):
        load_model(RESNET20, path)
    for path in (tmp_path / "absent.pth", tmp_path):  # a folder is none either
        with pytest.raises(PrunerError, match="no weights file"):
            load_model(RESNET20, path)


def test_a_library_that_fails_to_import_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "timm").mkdir()
    fault = "operator torchvision::nms does not exist"
    (tmp_path / "timm" / "__init__.py").write_text(f"raise RuntimeError('{fault}')\n")
    for name in [n for n in sys.modules if n == "timm" or n.startswith("timm.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PrunerError, match=f"{fault}.*release.*goes with torch"):
        load_model("timm:resnet18")
