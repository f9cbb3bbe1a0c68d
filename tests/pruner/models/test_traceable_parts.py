"""Of a model that cannot be traced, the largest parts that can."""

import torch
from torch import nn

from pruner.models import find_traceable_parts
from pruner.models.example_inputs import Example


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(2)])

    def forward(self, x, scale):
        x = self.layers[0](x)
        return self.layers[1](x) * scale if x.sum() > 0 else self.layers[1](-x)


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 8))
        self.head = Branching()
        self.unused = nn.Sequential(nn.Linear(90, 90))

    def forward(self, x):
        return self.head(self.backbone(x), scale=2.0)


def test_the_largest_parts_are_found_below_what_branches_on_values():
    model = Detector()
    text = find_traceable_parts(model, Example((torch.randn(2, 8),)))
    assert text.startswith("backbone (") and "head.layers.0 (" in text and "unused" not in text
    assert "head (" not in text and "backbone.0" not in text and model.training
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert find_traceable_parts(model, Example((torch.randn(2, 8),)), seconds=0.0) == ""
