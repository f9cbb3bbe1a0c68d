"""Each format's file computes what torch does, read by its maker's runtime and nothing of ours."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pruner.formats.onnx_format as onnx_format
from pruner import Plan, PrunerError, apply, trace
from pruner.formats import (
    ExportedFile,
    PlainNetwork,
    WriteOptions,
    export_network,
    find_format,
    format_names,
)

from ..networks import Residual, shake

METADATA = {"model": "tiny", "plan": "abc"}
IMAGE = (1, 3, 8, 8)


@pytest.fixture(scope="module")
def network() -> PlainNetwork:
    """A pruned network of one input and one output."""
    torch.manual_seed(0)
    net = trace(shake(Residual()), (torch.randn(IMAGE),), step=1)
    return PlainNetwork.of(apply(net, Plan.random(net, 0.5)), net.inputs)


def write(
    network: PlainNetwork, form: str, folder: Path, precision: str = "fp32", **options: object
) -> ExportedFile:
    found = find_format(form, precision)
    more = WriteOptions(precision, metadata=METADATA, **options)  # type: ignore[arg-type]
    return export_network(network, found, folder / f"model{found.suffixes[0]}", more)


def answer(network: PlainNetwork, *inputs: Tensor) -> np.ndarray:
    with torch.no_grad():
        return network.module(*inputs).numpy()


def test_onnx(network, tmp_path):
    ort = pytest.importorskip("onnxruntime")
    done = write(network, "onnx", tmp_path)
    assert done.agreement.batches == 3 and done.agreement.relative < 1e-4
    assert done.figures.latency.median_ms > 0 and not done.fixed_because
    session = ort.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    x = torch.randn(4, *IMAGE[1:])
    assert np.allclose(session.run(None, {"x": x.numpy()})[0], answer(network, x), atol=1e-5)
    known = session.get_modelmeta().custom_metadata_map
    assert {k: known[f"msprune.{k}"] for k in METADATA} == METADATA
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_onnx_of_more_than_two_gigabytes(network, tmp_path, monkeypatch):
    ort = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnx_format, "LARGEST", 0)
    monkeypatch.setattr(onnx_format, "LEAST_OUTSIDE", 64)
    done = write(network, "onnx", tmp_path)
    assert sorted(done.digests) == ["model.onnx", "model.onnx.data"]
    moved = tmp_path.rename(tmp_path.with_name("moved"))  # the one finds the other by its name
    session = ort.InferenceSession(moved / "model.onnx", providers=["CPUExecutionProvider"])
    x = torch.randn(IMAGE)
    assert np.allclose(session.run(None, {"x": x.numpy()})[0], answer(network, x), atol=1e-5)
    with pytest.raises(PrunerError, match="more than 2 GB; use fp32"):
        write(network, "onnx", moved, "fp16")


def test_half_and_int8_onnx(network, tmp_path):
    pytest.importorskip("onnxruntime")
    done = write(network, "onnx", tmp_path, "fp16")
    assert 0 < done.agreement.relative < 0.02
    assert done.figures.size_bytes < done.full.size_bytes and done.full.latency.median_ms > 0
    rows = [(torch.randn(IMAGE),) for _ in range(8)]
    done = write(network, "onnx", tmp_path, "int8", calibration=rows)
    assert 0 < done.agreement.relative < 0.3
    model = (tmp_path / "model.onnx").read_bytes()
    assert b"QuantizeLinear" in model
    with pytest.raises(PrunerError, match="int8 needs calibration samples"):
        write(network, "onnx", tmp_path, "int8")
    assert (tmp_path / "model.onnx").read_bytes() == model


def test_openvino(network, tmp_path):
    ov = pytest.importorskip("openvino")
    done = write(network, "openvino", tmp_path)
    assert done.agreement.relative < 1e-4 and sorted(done.digests) == ["model.bin", "model.xml"]
    model = ov.Core().read_model(tmp_path / "model.xml")
    x = torch.randn(4, *IMAGE[1:])
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    (result,) = compiled(x.numpy()).values()
    assert np.allclose(result, answer(network, x), atol=1e-5)
    assert model.get_rt_info(["msprune", "plan"]).value == "abc"


def test_int8_openvino(network, tmp_path):
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    rows = [(torch.randn(IMAGE),) for _ in range(8)]
    done = write(network, "openvino", tmp_path, "int8", calibration=rows)
    assert 0 < done.agreement.relative < 0.3
    assert "FakeQuantize" in (tmp_path / "model.xml").read_text()


@pytest.mark.parametrize(
    ("form", "load"),
    [
        ("pt2", lambda file, extra: torch.export.load(file, extra_files=extra).module()),
        ("torchscript", lambda file, extra: torch.jit.load(file, _extra_files=extra)),
    ],
)
def test_formats_of_torch(network, tmp_path, form, load):
    file, extra = write(network, form, tmp_path).file, {"msprune.json": ""}
    module = load(file, extra)
    assert json.loads(extra["msprune.json"]) == METADATA
    x = torch.randn(4, *IMAGE[1:])
    with torch.no_grad():
        assert np.allclose(module(x).numpy(), answer(network, x), atol=1e-6)
    assert write(network, form, tmp_path, "fp16").agreement.relative < 0.02


@pytest.mark.parametrize("form", ["onnx", "openvino", "pt2"])
def test_the_callers_arithmetic_is_left_alone(network, tmp_path, form):
    pytest.importorskip({"onnx": "onnxruntime", "openvino": "openvino"}.get(form, "torch"))
    torch.set_flush_denormal(False)  # whatever ran in this thread before
    write(network, form, tmp_path)
    assert np.finfo(np.float32).tiny * np.float32(0.5) > 0


def test_tensorrt_is_built_for_another_gpu(network, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = write(network, "tensorrt", tmp_path, target="SM89")
    assert done.agreement is None and "not compared" in done.unverified
    assert done.fixed_because and done.batch == 1
    assert (tmp_path / "model.engine").stat().st_size == done.figures.size_bytes > 0
    with pytest.raises(PrunerError, match="none is here: give its compute capability"):
        write(network, "tensorrt", tmp_path)


def test_coreml(network, tmp_path):
    tools = pytest.importorskip("coremltools")
    done = write(network, "coreml", tmp_path)
    assert done.agreement is None or done.agreement.relative < 1e-4
    with zipfile.ZipFile(tmp_path / "model.mlpackage.zip") as archive:
        archive.extractall(tmp_path)
    model = tools.models.MLModel(str(tmp_path / "model.mlpackage"), skip_model_load=True)
    assert model.user_defined_metadata["msprune.plan"] == "abc"
    assert list(model.get_spec().description.input[0].type.multiArrayType.shape) == list(IMAGE)


@pytest.mark.parametrize(("form", "library"), [("litert", "litert_torch"), ("executorch",) * 2])
def test_formats_of_small_devices(network, tmp_path, form, library):
    pytest.importorskip(library)
    done = write(network, form, tmp_path)
    assert done.agreement.relative < 1e-4 and done.fixed_because


@pytest.mark.parametrize(
    ("form", "library", "package"),
    [
        ("coreml", "coremltools", "coremltools"),
        ("litert", "litert_torch", "litert-torch"),
        ("executorch", "executorch.exir", "executorch"),
        ("openvino", "openvino", "openvino"),
    ],
)
def test_a_missing_library_is_said_with_what_installs_it(
    network, tmp_path, monkeypatch, form, library, package
):
    monkeypatch.setitem(__import__("sys").modules, library, None)
    said = rf'--format {form} needs {package}, .*pip install "msprune\[{form}\]"'
    with pytest.raises(PrunerError, match=said):
        write(network, form, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_library_of_a_precision_is_missing(network, tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setitem(__import__("sys").modules, "nncf", None)
    said = r'--format openvino --precision int8 needs nncf, .*pip install "msprune\[nncf\]"'
    with pytest.raises(PrunerError, match=said):
        write(network, "openvino", tmp_path, "int8", calibration=[(torch.randn(IMAGE),)])
    assert not list(tmp_path.iterdir())


class Pictures(nn.Module):
    """Patches, a class token and attention: the batch is asked for in several places."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.qkv, self.head = nn.Linear(8, 24), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        q, k, v = self.qkv(x).reshape(x.shape[0], x.shape[1], 3, 2, 4).permute(2, 0, 3, 1, 4)
        x = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.head(x.transpose(1, 2).reshape(x.shape[0], -1, 8)[:, 0])


class Windows(nn.Module):
    """Attention within shifted windows: the batch is a factor of what is reshaped."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.head = nn.Conv2d(3, 8, 2, 2), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.roll(self.patch(x).permute(0, 2, 3, 1), (-1, -1), (1, 2))
        b, h, w, c = x.shape
        y = x.view(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
        y = nn.functional.scaled_dot_product_attention(y, y, y)
        y = y.view(b, h // 2, w // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        return self.head(y.mean((1, 2)))


class Recurrent(nn.Module):
    """Columns of an image read both ways: the first state has the batch's size."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 6, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x.mean(2).transpose(1, 2))[0]


@pytest.mark.parametrize("kind", [Windows, Recurrent])
@pytest.mark.parametrize("form", ["pt2", "torchscript"])
def test_sizes_are_no_constants(tmp_path, form, kind):
    torch.manual_seed(0)
    done = write(PlainNetwork.of(kind().eval(), (torch.randn(IMAGE),)), form, tmp_path)
    assert not done.fixed_because and done.agreement.relative < 1e-5


@pytest.mark.parametrize("form", ["onnx", "openvino", "pt2", "torchscript"])
def test_the_batch_is_free_where_a_network_asks_for_it(tmp_path, form):
    pytest.importorskip({"onnx": "onnxruntime", "openvino": "openvino"}.get(form, "torch"))
    torch.manual_seed(0)
    done = write(PlainNetwork.of(Pictures(), (torch.randn(IMAGE),)), form, tmp_path)
    assert not done.fixed_because and done.agreement.relative < 1e-4


class Several(nn.Module):
    """Two inputs, one by keyword, and three results in a dictionary, integers among them."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, 8), nn.Linear(4, 8)

    def forward(self, x: Tensor, *, other: Tensor) -> dict[str, object]:
        y = torch.relu(self.left(x) + self.right(other))
        return {"maps": (y, y.mean(1)), "best": y.argmax(1)}


@pytest.mark.parametrize("form", ["onnx", "pt2", "torchscript"])
def test_several_inputs_and_nested_results(tmp_path, form):
    from pruner.formats.file_module import FileModule

    torch.manual_seed(0)
    args, kwargs = (torch.randn(2, 6),), {"other": torch.randn(2, 4)}
    network = PlainNetwork.of(Several(), args, kwargs)
    assert network.input_names == ("x", "other")
    done = write(network, form, tmp_path)
    assert done.agreement.changed == 0 and not done.fixed_because
    run = find_format(form).open(done.file, 1)
    got, expected = FileModule(run, network)(*args, **kwargs), network.whole(*args, **kwargs)
    torch.testing.assert_close(got, expected)


class FixedBatch(nn.Module):
    """Mixes the samples of a batch of two."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.head = nn.Linear(2, 2), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mix(x.view(2, 6).t()).t())


@pytest.mark.filterwarnings("ignore::pruner.errors.PrunerWarning")
def test_a_network_of_a_fixed_batch_is_written_so(tmp_path):
    from pruner.formats.file_module import FileModule

    torch.manual_seed(0)
    network = PlainNetwork.of(FixedBatch(), (torch.randn(2, 6),))
    done = write(network, "torchscript", tmp_path)
    assert done.fixed_because == "the network itself takes no other" and done.batch == 2
    run = find_format("torchscript").open(done.file, 1)
    x = torch.randn(5, 6)
    got = FileModule(run, network.fix_batch())(x)
    pairs = [network.module(x[:2]), network.module(x[2:4]), network.module(x[[4, 4]])[:1]]
    torch.testing.assert_close(got, torch.cat(pairs))


class Spectrum(nn.Module):
    """Mixes channels of complex numbers, which ONNX has no operator for."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.einsum("bchw,cd->bdhw", torch.fft.rfft2(x), self.weight))


def test_an_operator_that_a_format_refuses_is_named(tmp_path):
    network = PlainNetwork.of(Spectrum(), (torch.randn(IMAGE),))
    with pytest.raises(PrunerError, match="complex numbers has no ONNX form"):
        write(network, "onnx", tmp_path)
    assert not list(tmp_path.iterdir())
    assert write(network, "pt2", tmp_path).agreement.relative < 1e-4


def test_names_that_are_not_known():
    assert format_names()[0] == "onnx" and len(format_names()) == 9
    with pytest.raises(PrunerError, match="got 'onxx': did you mean onnx"):
        find_format("onxx")
    with pytest.raises(PrunerError, match="torchscript is written in fp32, fp16, not 'int8'"):
        find_format("torchscript", "int8")


@pytest.mark.parametrize("inputs", [(), (torch.randn(2, 7),), (torch.randn(2, 6),) * 2])
def test_arguments_that_do_not_fit_are_refused(inputs):
    torch.manual_seed(0)
    whole = PlainNetwork.of(nn.Sequential(nn.Linear(6, 3)), (torch.randn(2, 6),)).whole
    with pytest.raises(PrunerError, match="cannot be called with the example arguments"):
        PlainNetwork.of(whole, inputs)
