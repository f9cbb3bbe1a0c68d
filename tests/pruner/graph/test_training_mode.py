"""A rebuilt network in training: it draws what its original draws."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pruner import Plan, apply, load, save, trace
from pruner.graph.stochastic import DotProductAttention, DropPath

from ..networks import shake


def same_draws(model, rebuilt, *inputs):
    """The largest difference of both in training mode, from the same seed."""
    results = []
    state = {k: v.clone() for k, v in model.state_dict().items()}
    for module in (model, rebuilt):
        module.train()
        torch.manual_seed(3)
        with torch.no_grad():
            results.append(module(*inputs))
        module.eval()
        model.load_state_dict(state)  # batch norms have moved, and the tensors are shared
    return float((results[0] - results[1]).abs().max())


def vision_transformer():
    tv = pytest.importorskip("torchvision").models
    return tv.VisionTransformer(16, 4, 2, 2, 32, 64, dropout=0.2, attention_dropout=0.2)


def swin():
    swin = pytest.importorskip("torchvision").models.swin_transformer.SwinTransformer
    return swin([2, 2], 16, [1, 1], [2, 2], [2, 2], dropout=0.2, attention_dropout=0.2,
                stochastic_depth_prob=0.5)  # fmt: skip


def convnext():
    tv = pytest.importorskip("torchvision").models.convnext
    return tv.ConvNeXt([tv.CNBlockConfig(16, 32, 2), tv.CNBlockConfig(32, None, 2)], 0.5)


def timm_vit():
    return pytest.importorskip("timm").create_model(
        "vit_tiny_patch16_224", img_size=32, depth=2, embed_dim=32, num_heads=2,
        drop_path_rate=0.5, attn_drop_rate=0.2, proj_drop_rate=0.2, pos_drop_rate=0.2,
    )  # fmt: skip


def timm_resnet():
    return pytest.importorskip("timm").create_model("resnet18", drop_path_rate=0.5, drop_rate=0.2)


class Functional(nn.Module):
    """Stochastic depth in every manner of writing it, in modules that hold weights."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(6, 6) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._bernoulli(self.a(x))
        x = x + self._uniform(torch.relu(self.b(x)))
        if self.training:
            x = functional.dropout(x, 0.3)
        x = x + self._unscaled(self.c(x))
        query = self.d(x)[:, None]
        return functional.scaled_dot_product_attention(
            query, query, query, dropout_p=0.4 if self.training else 0.0
        )[:, 0]

    def _bernoulli(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x / 0.75 * torch.full((x.shape[0], 1, 1), 0.75).bernoulli()

    def _uniform(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        mask = (0.75 + torch.rand((x.shape[0], 1, 1), dtype=x.dtype)).floor()
        return x.div(0.75) * mask

    def _unscaled(self, x: Tensor) -> Tensor:
        return x * torch.empty(1, 1, 1).bernoulli_(0.5) if self.training else x


class Dropouts(nn.Module):
    """Every dropout layer of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.layers = nn.ModuleList(
            [nn.Dropout(0.2), nn.Dropout2d(0.2), nn.AlphaDropout(0.2), nn.FeatureAlphaDropout(0.2)]
        )
        self.inplace = nn.Dropout(0.2, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        for layer in self.layers:
            x = layer(x)
        return self.inplace(x)


@pytest.mark.parametrize(
    ("make", "size", "kinds"),
    [
        (vision_transformer, (3, 16, 16), {DotProductAttention: 2}),
        (swin, (3, 16, 16), {DropPath: 2}),
        (convnext, (3, 32, 32), {DropPath: 3}),
        (timm_vit, (3, 32, 32), {DropPath: 2, DotProductAttention: 2}),
        (timm_resnet, (3, 32, 32), {DropPath: 7}),
        (Dropouts, (3, 8, 8), {nn.Dropout: 2, nn.Dropout2d: 1, nn.AlphaDropout: 1}),
    ],
)
def test_the_same_seed_gives_the_same_output_in_training(make, size, kinds, tmp_path):
    torch.manual_seed(0)
    model = shake(make())
    for parameter in model.parameters():
        if not parameter.any():  # a head that starts at zero would hide all that lies before
            nn.init.normal_(parameter)
    x = torch.randn(4, *size)
    net = trace(model, (x,))
    found = [type(layer) for layer in net.module.modules()]
    assert {kind: found.count(kind) for kind in kinds} == kinds
    assert torch.equal(net.module(x), model(x))
    assert same_draws(model, net.module, x) == 0
    assert not net.program.notes
    small = apply(net, Plan.random(net, macs=0.6, seed=0))
    save(small, None, tmp_path)
    assert same_draws(small, load(tmp_path), x) == 0
    assert not torch.equal(small.train()(x), small.eval()(x))


def test_stochastic_depth_in_functions():
    model = Functional()
    net = trace(model, (torch.randn(2, 5, 6),))
    drawn = {layer.p: layer for layer in net.module.modules() if isinstance(layer, DropPath)}
    assert sorted(drawn) == [0.25, 0.5]
    assert sum(isinstance(layer, DropPath) for layer in net.module.modules()) == 3
    assert (drawn[0.25].mode, drawn[0.25].scale_by_keep) == ("row", True)
    assert (drawn[0.5].mode, drawn[0.5].scale_by_keep) == ("batch", False)
    assert [x.p for x in net.module.modules() if isinstance(x, DotProductAttention)] == [0.4]
    assert [x.p for x in net.module.modules() if isinstance(x, nn.Dropout)] == [0.3]
    assert not net.program.notes


def test_stochastic_depth_right_before_the_output():
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            mask = x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(0.8) if self.training else None
            return x if mask is None else x * mask / 0.8

    net = trace(Last(), (torch.zeros(1, 3, 8, 8),))
    assert [x.p for x in net.module.modules() if isinstance(x, DropPath)] == pytest.approx([0.2])


def test_a_transformers_model_drops_what_it_says():
    transformers = pytest.importorskip("transformers")
    model = transformers.BeitModel(
        transformers.BeitConfig(
            hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32,
            image_size=16, patch_size=4, drop_path_rate=0.4, attention_probs_dropout_prob=0.1,
        )
    )  # fmt: skip
    net = trace(model, (torch.randn(2, 3, 16, 16),))
    wanted = {
        path: layer.drop_prob
        for path, layer in model.named_modules()
        if "DropPath" in type(layer).__name__ and layer.drop_prob
    }
    found = [layer.p for layer in net.module.modules() if isinstance(layer, DropPath)]
    assert len(found) == 2 * len(wanted)  # each is called after attention and after the MLP
    assert sorted(set(found)) == pytest.approx(sorted(set(wanted.values())))
    assert any(isinstance(layer, DotProductAttention) for layer in net.module.modules())


def test_stochastic_depth_drops_its_share_and_keeps_the_mean():
    torch.manual_seed(0)
    x = torch.ones(4000, 3)
    y = DropPath(0.3).train()(x)
    assert y.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert float((y[:, 0] == 0).float().mean()) == pytest.approx(0.3, abs=0.03)
    assert torch.equal(y[:, 0], y[:, 2])
    assert len(DropPath(0.3, "batch").train()(x).unique()) == 1
    assert set(DropPath(0.5, "row", False).train()(x).unique().tolist()) == {0.0, 1.0}
    assert DropPath(0.3).eval()(x) is x


def test_what_training_does_otherwise_is_named():
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                x = x + torch.randn_like(x)
            return self.linear(x)

    class Restless(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * int(torch.rand(()) > 0.5) if self.training else x * 2

    (note,) = trace(Noisy(), (torch.randn(2, 4),)).program.notes
    assert "in training (add)" in note
    (note,) = trace(Restless(), (torch.randn(2, 4),)).program.notes
    assert "cannot be exported" in note


def test_batch_norms_of_every_kind():
    class Norms(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 1)
            self.average = nn.BatchNorm2d(8, momentum=None)
            self.stateless = nn.BatchNorm2d(8, track_running_stats=False)
            self.frozen = nn.BatchNorm2d(8)
            self.instance = nn.InstanceNorm2d(8, affine=True)
            self.tracked = nn.InstanceNorm2d(8, track_running_stats=True)
            self.rms = nn.RMSNorm(5)
            self.bend = nn.PReLU(8)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stateless(self.average(self.conv(x)))
            x = self.tracked(self.instance(self.frozen(x)))
            return self.bend(self.rms(x))

        def train(self, mode: bool = True) -> nn.Module:
            super().train(mode)
            self.frozen.eval()
            return self

    model = shake(Norms())
    x = torch.randn(4, 3, 5, 5)
    net = trace(model, (x,))
    small = apply(net, Plan({}, {}))
    assert set(small.state_dict()) == set(model.state_dict())
    for name in ("average", "stateless", "instance", "tracked", "rms", "bend"):
        assert type(small.get_submodule(name)) is type(model.get_submodule(name)), name
    assert not isinstance(small.get_submodule("frozen"), nn.BatchNorm2d)
    assert torch.allclose(small(x), model(x), atol=1e-6)
    model.train()
    small.train()
    for _ in range(2):
        assert torch.allclose(small(x), model(x), atol=1e-6)
    state = small.state_dict()
    for name, value in model.state_dict().items():
        assert torch.allclose(state[name], value, atol=1e-6), name


class LayerDrop(nn.Module):
    """Skips layers at random, as some code asks for a random number."""

    def __init__(self, skip) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            if self.training and self.skip(0.1):
                continue
            y = functional.dropout(layer(x), 0.2, self.training).relu()
            x = x + functional.dropout(y, 0.3) if self.training else x + y
            if self.training and not torch.isfinite(x).all():
                x = x.clamp(-1e4, 1e4)
        return x


@pytest.mark.parametrize(
    ("skip", "said"),
    [
        (lambda p: torch.rand([]) < p, "3 choices"),
        (lambda p: not torch.rand(1) >= p, "probability 0.1"),
        (lambda p: torch.rand(1).item() < p, "3 choices"),
        (lambda p: p > torch.empty(1).uniform_(0, 1), "LayerDrop"),
        (lambda p: random.random() < p, "Python or numpy"),
        (lambda p: np.random.uniform(0, 1) < p, "Python or numpy"),
    ],
)
def test_skipped_layers_are_named_and_all_else_of_training_is_kept(skip, said):
    before = random.getstate(), np.random.get_state()[1].tolist()
    net = trace(LayerDrop(skip), (torch.randn(2, 8),))
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    assert any(said in note for note in net.program.notes)
    assert any("finite" in note for note in net.program.notes)
    assert sum(isinstance(m, nn.Dropout) for m in net.module.modules()) == 6
