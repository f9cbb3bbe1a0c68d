"""ONNX nodes carry the names of the graph, and the numbers are the module's."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import fx, nn

import pruner.graph.onnx.template_cache as probe_export
from pruner import PrunerError, trace
from pruner.graph.onnx.export import to_onnx
from tests.latency_tables.nets import Tiny

ort = pytest.importorskip("onnxruntime")
WIDTHS = {"stream": 16, "a": 24, "b": 8}


def tiny(**widths: int) -> fx.GraphModule:
    torch.manual_seed(0)
    module = Tiny(WIDTHS | widths)
    for norm in (module.norm1, module.norm3):
        nn.init.normal_(norm.bias)
        norm.running_mean.normal_()
    return fx.symbolic_trace(module.eval())


def run(model: onnx.ModelProto | bytes, x: torch.Tensor) -> np.ndarray:
    data = model if isinstance(model, bytes) else model.SerializeToString()
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]


def test_numbers_and_names():
    module, x = tiny(), torch.randn(1, 3, 16, 16)
    model = to_onnx(module, (x,))
    assert np.allclose(run(model, x), module(x).detach().numpy(), atol=1e-5)
    nodes = {node.name for node in module.graph.nodes}
    assert {node.name.split("/")[0] for node in model.graph.node} <= nodes
    # An operator that is called several times keeps its calls apart.
    assert {"relu", "relu_1", "add", "add_1", "linear"} <= {
        node.name.split("/")[0] for node in model.graph.node
    }
    assert "stem.weight" in {tensor.name for tensor in model.graph.initializer}
    assert not any(node.metadata_props for node in model.graph.node)


def test_a_dynamic_batch_takes_any_batch():
    module = tiny()
    model = to_onnx(module, (torch.randn(1, 3, 16, 16),), dynamic_batch=True)
    x = torch.randn(3, 3, 16, 16)
    assert np.allclose(run(model, x), module(x).detach().numpy(), atol=1e-5)


class Attending(nn.Module):
    """Attention of so many heads, keys and values of widths of their own."""

    def __init__(self, heads: int, key: int, value: int) -> None:
        super().__init__()
        self.heads, self.split = heads, [heads * key, heads * key, heads * value]
        self.embed = nn.Conv2d(3, 24, 4, stride=4)
        self.qkv = nn.Linear(24, sum(self.split))
        self.project = nn.Linear(heads * value, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        q, k, v = (
            y.reshape(y.shape[0], 16, self.heads, -1).transpose(1, 2)
            for y in self.qkv(x).split(self.split, 2)
        )
        x = nn.functional.scaled_dot_product_attention(q, k, v, scale=0.3)
        return self.project(x.transpose(1, 2).reshape(x.shape[0], 16, self.split[2]))


def attending(heads: int, key: int, value: int) -> fx.GraphModule:
    torch.manual_seed(0)
    x = torch.zeros(1, 3, 16, 16)
    return trace(Attending(heads, key, value).eval(), (x,)).module


@pytest.mark.parametrize("dynamic_batch", [False, True])
def test_the_keys_of_attention_are_transposed_by_one_operator(dynamic_batch):
    module = attending(3, 8, 8)
    model = to_onnx(module, (torch.zeros(1, 3, 16, 16),), dynamic_batch=dynamic_batch)
    onnx.checker.check_model(model, full_check=True)
    x = torch.randn(4 if dynamic_batch else 1, 3, 16, 16)
    assert np.allclose(run(model, x), module(x).detach().numpy(), atol=1e-5)
    own = [n for n in model.graph.node if n.name.startswith("scaled_dot_product_attention/")]
    assert [n.op_type for n in own].count("Transpose") == 1
    assert not {"Reshape", "Shape", "Concat"} & {n.op_type for n in own}
    read = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= read


def test_a_plain_module_is_exported_too():
    module, x = Tiny(WIDTHS).eval(), torch.randn(1, 3, 16, 16)
    assert np.allclose(run(to_onnx(module, (x,)), x), module(x).detach().numpy(), atol=1e-5)


def test_a_module_in_training_is_refused():
    with pytest.raises(ValueError, match="eval"):
        to_onnx(tiny().train(), (torch.randn(1, 3, 16, 16),))


def test_a_second_probe_has_the_shapes_of_an_export_without_one(monkeypatch):
    exports = []
    monkeypatch.setattr(probe_export, "_templates", type(probe_export._templates)())
    monkeypatch.setattr(probe_export, "to_onnx", lambda *args: exports.append(1) or to_onnx(*args))
    x = torch.randn(1, 3, 16, 16)
    probe_export.build_probe_onnx(tiny(), (x,))
    other = tiny(stream=40, b=64)
    quick, full = probe_export.build_probe_onnx(other, (x,)), to_onnx(other, (x,))
    assert len(exports) == 1
    model = onnx.load_from_string(quick)
    assert [n.name for n in model.graph.node] == [n.name for n in full.graph.node]
    shapes = [
        {
            t.name: tuple(t.dims)
            for t in m.graph.initializer
            if t.data_type == onnx.TensorProto.FLOAT
        }
        for m in (model, full)
    ]
    assert shapes[0] == shapes[1]
    assert np.isfinite(run(quick, x)).all() and run(quick, x).shape == (1, 10)


def test_weights_that_the_exporter_folds_follow_what_they_are_made_of(monkeypatch):
    """A Swin Transformer's are transposed, and its biases picked by relative position."""
    swin = pytest.importorskip("timm.models.swin_transformer")
    model = swin.SwinTransformer(
        *(32, 2, 3, 10), embed_dim=32, depths=(2, 2), num_heads=(2, 4), window_size=4
    )
    net = trace(model.eval(), (torch.rand(1, 3, 32, 32),))
    exports = []
    monkeypatch.setattr(probe_export, "_templates", type(probe_export._templates)())
    monkeypatch.setattr(probe_export, "to_onnx", lambda *args: exports.append(1) or to_onnx(*args))
    net.probe({}).onnx()
    random, heads = np.random.default_rng(0), [n for n in net.sizes() if n.endswith("heads")]
    assert heads
    for number in range(3):
        sizes = {name: int(random.choice(options)) for name, options in net.sizes().items()}
        if number:  # the first one with fewer heads
            sizes = {name: size for name, size in sizes.items() if name not in heads}
        probe = net.probe(sizes)
        data = probe.onnx()
        quick = onnx.load_from_string(data)
        full = to_onnx(probe_export._randomize_weights(probe.module), probe.inputs)
        found, expected = (
            sorted(tuple(t.dims) for t in m.graph.initializer if np.prod(t.dims) > 64)
            for m in (quick, full)
        )
        assert found == expected
        assert np.isfinite(run(data, *probe.inputs)).all()
    assert len(exports) == 1


def test_attention_of_other_widths_takes_over_the_graph(monkeypatch):
    exports = []
    monkeypatch.setattr(probe_export, "_templates", type(probe_export._templates)())
    monkeypatch.setattr(probe_export, "to_onnx", lambda *args: exports.append(1) or to_onnx(*args))
    x = torch.randn(1, 3, 16, 16)
    probe_export.build_probe_onnx(attending(3, 8, 8), (x,))
    for widths in ((3, 4, 8), (2, 8, 12), (1, 5, 3)):
        module = attending(*widths)
        quick = probe_export.build_probe_onnx(module, (x,))
        assert len(exports) == 1
        full = to_onnx(probe_export._randomize_weights(module), (x,))
        found, expected = (
            sorted(tuple(t.dims) for t in m.graph.initializer if np.prod(t.dims) > 64)
            for m in (onnx.load_from_string(quick), full)
        )
        assert found == expected
        assert np.isfinite(run(quick, x)).all() and run(quick, x).shape == (1, 16, 10)


def test_another_structure_is_exported_anew(monkeypatch):
    monkeypatch.setattr(probe_export, "_templates", type(probe_export._templates)())
    x = torch.randn(1, 3, 16, 16)
    probe_export.build_probe_onnx(tiny(), (x,))
    changed = tiny()
    changed.stem.stride = (2, 2)
    probe_export.build_probe_onnx(changed, (x,))
    assert len(probe_export._templates) == 2


def test_a_depthwise_convolution_changes_its_groups(monkeypatch):
    monkeypatch.setattr(probe_export, "_templates", type(probe_export._templates)())
    x = torch.randn(1, 3, 8, 8)

    def net(width: int) -> fx.GraphModule:
        layers = [nn.Conv2d(3, width, 1), nn.Conv2d(width, width, 3, groups=width)]
        return fx.symbolic_trace(nn.Sequential(*layers).eval())

    probe_export.build_probe_onnx(net(16), (x,))
    # Outputs differ in their shape, so that this one must be exported anew; and it may not fail.
    assert run(probe_export.build_probe_onnx(net(24), (x,)), x).shape == (1, 24, 6, 6)


class Clamped(nn.Module):
    """One value clamped by two readers, which the exporter's simplification breaks."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
        self.register_buffer("low", torch.tensor(-0.5))
        self.register_buffer("high", torch.tensor(0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = 2 * x
        left, right = (torch.clamp(y, self.low, self.high) for _ in range(2))
        return self.a(left) * self.b(right)


class Windows(nn.Module):
    """Attention over three and over five axes, with and without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(2, 5, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        attention = nn.functional.scaled_dot_product_attention
        y = x.reshape(x.shape[0], 2, 5, 2, 3).transpose(2, 3).unsqueeze(1)
        y = attention(y, y, y) + attention(y, y, y, self.bias.unsqueeze(1))
        return y.flatten(1) + attention(x, x, x).flatten(1)


@pytest.mark.parametrize("module, shape", [(Clamped(), (2, 6)), (Windows(), (2, 10, 6))])
def test_what_the_exporter_alone_gets_wrong(module, shape):
    traced = trace(module.eval(), (torch.randn(shape),)).module
    model = to_onnx(traced, (torch.randn(shape),), dynamic_batch=True)
    x = torch.randn(3, *shape[1:])
    assert np.allclose(run(model, x), module(x).detach().numpy(), atol=1e-5)


class Spectral(nn.Module):
    """Channels mixed by a complex weight between a Fourier transform and its inverse."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3, dtype=torch.cfloat))

    def forward(self, x):
        spectrum = torch.fft.rfft2(x)
        return torch.fft.irfft2(torch.einsum("bchw,cd->bdhw", spectrum, self.weight))


def test_what_onnx_has_no_form_for_is_one_line_with_the_operator():
    with pytest.raises(PrunerError, match="complex numbers has no ONNX form.*--engine torch"):
        to_onnx(Spectral().eval(), (torch.randn(1, 3, 8, 8),))
