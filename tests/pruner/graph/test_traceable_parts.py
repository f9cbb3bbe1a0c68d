"""Of a model that cannot be traced, the largest parts that can."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pruner import TraceError, trace
from pruner.graph import describe_traceable_parts
from pruner.structure import trace_parts


def make_mlp(size=8, inner=8):
    return nn.Sequential(nn.Linear(size, inner), nn.ReLU(), nn.Linear(inner, size))


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([make_mlp() for _ in range(3)])

    def forward(self, x, scale):
        for layer in self.layers:
            x = layer(x) * scale if x.sum() > 0 else layer(-x)
        return x


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = make_mlp(inner=32)
        self.head = Branching()
        self.unused, self.single = make_mlp(90), nn.Sequential(nn.Linear(8, 8), nn.ReLU())
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.count += 1
        return self.single(self.head(self.backbone(x), scale=2.0))


class Popping(nn.Module):
    """Takes its features off the list that it gave to its neck."""

    def __init__(self):
        super().__init__()
        self.down, self.up, self.neck = make_mlp(), make_mlp(), Neck()
        self.neck.down = self.down

    def forward(self, images):
        features = [self.down(images["x"]), self.up(images["x"])]
        fused = self.neck(features, kinds={"scale": 2.0})
        while features:
            features.pop()
        return fused if fused.mean().item() > 0 else -fused


class Neck(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = make_mlp(16)

    def forward(self, features, *, kinds):
        return self.mix(torch.cat(features, 1)) * kinds["scale"]


X = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))


def test_the_largest_parts_are_found_below_what_branches_on_values():
    model = Detector()
    text = describe_traceable_parts(model, (X,), {})
    assert text.startswith("backbone (") and ", head.layers.{0-2} (" in text
    assert not any(name in text for name in ("unused", "single", "head (", "backbone.0"))
    assert model.training and model.count == 0
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_the_time_is_bounded(monkeypatch):
    model = Detector()
    assert describe_traceable_parts(model, (X,), {}, seconds=0.0) == ""
    ticks = SimpleNamespace(monotonic=iter(range(1000)).__next__)
    monkeypatch.setattr("pruner.graph.traceable_parts.time", ticks)
    text = describe_traceable_parts(model, (X,), {}, seconds=25.0)
    assert "backbone" in text and "head.layers.{0-2}" not in text
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_refusal_names_the_parts():
    named = r"NAME: backbone \(\d\d% of .*, head.layers.\{0-2\} \("
    with pytest.raises(
        TraceError, match=rf"values of a tensor.*if x.sum\(\) > 0.*--submodule {named}"
    ):
        trace(nn.DataParallel(Detector()), (X,))
    model = Popping()
    with pytest.raises(TraceError, match=r"NAME: neck \(\d\d% of the parameters\), up \("):
        trace(model, ({"x": X},))
    with pytest.raises(TraceError, match=r"--submodule NAME, NAME below head: layers.\{0-2\} \("):
        trace_parts({"backbone": (make_mlp(), (X,), {}), "head": (Branching(), (X, 2.0), {})})


def test_nothing_is_named_where_nothing_is_to_be_had():
    class Single(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x):
            return self.layer(x) if x.max() > 0 else x

    with pytest.raises(TraceError, match="No part of it of more than one layer"):
        trace(Single(), (X,))
    assert describe_traceable_parts(Detector(), (torch.randn(2, 5),), {}) == ""
